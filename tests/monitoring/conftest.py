"""A daemon to ask, and the files that are about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.metrics import Series, series
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def daemon(broker: Broker) -> Iterator[Daemon]:
    """A daemon on a bus that was asked for something of every kind."""
    with Daemon(bus=broker.url, prefix="test/monitoring") as running:
        running.wait_bus()
        running.api.create("x", type="generic")
        running.api.rotate("x")
        running.api.secret("x")
        running.api.get("/secret/x?version=previous").ok()
        running.api.as_("backend").get("/secret/x").refused(403, "forbidden")
        yield running


@pytest.fixture(scope="module")
def metrics(daemon: Daemon) -> str:
    """What it answers to who scrapes it, once it has published something."""

    def published() -> str:
        text = daemon.api.as_(None).get("/metrics").body.decode()
        return "" if "secretsd_last_publish_timestamp_seconds 0.0" in text else text

    return eventually(published, "something was published")


@pytest.fixture(scope="module")
def exposed(metrics: str) -> list[Series]:
    """The series of that answer."""
    return series(metrics)


@pytest.fixture(scope="session")
def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    groups = yaml.safe_load((ROOT / "deploy/monitoring/secretsd.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="session")
def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    loaded: dict[str, Any] = json.loads((ROOT / "deploy/monitoring/grafana-dashboard.json").read_text())
    return loaded
