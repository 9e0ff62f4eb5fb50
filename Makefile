# Each target sets itself up from nothing: Python 3.11 or newer and git are enough.
# A stamp in .venv makes the second call fast; a changed pyproject.toml installs again.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# More than cores: the tests wait for daemons, brokers and graces more than they compute.
WORKERS ?= 4
export PATH := $(CURDIR)/$(BIN):$(PATH):/usr/local/sbin:/usr/sbin

SETUP := tools/environment
DISTRIBUTIONS := pyproject.toml bus/pyproject.toml clients/python/pyproject.toml

# `make run` needs a broker: Mosquitto, the one that you name, or else amqtt from PyPI.
HAVE_BROKER := $(BUS_URL)$(if $(filter amqtt,$(BROKER)),,$(shell PATH="$$PATH:/usr/local/sbin:/usr/sbin" command -v mosquitto))
RUN_KIND := $(if $(HAVE_BROKER),run,tryout)

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-deploy test-home-assistant test-rust bench incidents reference lint format clean tools-for-tests

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.ready-$(RUN_KIND) ## try it: daemon, broker and a live client; Ctrl-C ends it (BUS_URL=… uses your broker)
	@exec $(BIN)/python -m demo

test: $(VENV)/.ready-dev tools-for-tests ## the whole suite but what the targets below add: four to six minutes on two cores
	$(BIN)/python -m pytest -m "not slow and not deploy and not home_assistant" -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

# pytest's 5 means that no test is marked so, which is no failure.
test-slow: $(VENV)/.ready-dev tools-for-tests ## the tests that take minutes, and most of the injected faults
	$(BIN)/python -m pytest -m "slow and not deploy and not home_assistant" -n 2 --dist loadfile $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-deploy: $(VENV)/.ready-dev tools-for-tests ## containers, systemd and the installer, for real (Docker and root)
	$(BIN)/python -m pytest -m deploy $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-home-assistant: $(VENV)/.ready-dev tools-for-tests ## entities and blueprints in a real Home Assistant, installed once
	$(BIN)/python -m pytest -m home_assistant -n 2 --dist loadfile $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-rust: $(VENV)/.ready-dev tools-for-tests ## the client in Rust: style, lints, tests against the real daemon (cargo and crates.io)
	@tools/rust-client test

bench: $(VENV)/.ready-dev tools-for-tests ## the figures of docs/performance.md (FIGURES="reads rotation"; builds the Rust client once)
	$(BIN)/python -m tests.bench $(FIGURES)

incidents: $(VENV)/.ready-dev tools-for-tests ## record the incidents anew that the alert rules are tested on (root; a quarter of an hour)
	$(BIN)/python -m tests.monitoring.record $(NAMES)

reference: $(VENV)/.ready-dev ## write docs/openapi.json, asyncapi.json, schemas/, reference.md and man/ anew
	$(BIN)/python -m tools.reference

lint: $(VENV)/.ready-dev ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready-dev ## write the code in the one style
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean: ## remove .venv, .venv-home-assistant, .run, what cargo built and what the tools left
	@if [ -e .run/lock ] && ! flock --nonblock .run/lock true; then \
		echo "make run is still running here: end it first (Ctrl-C)" >&2; exit 1; fi
	rm -rf clients/rust/target $(VENV) .venv-home-assistant .run .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

tools-for-tests:
	@$(SETUP) tools

$(VENV)/.ready-%: $(DISTRIBUTIONS) $(SETUP)
	@$(SETUP) $*
