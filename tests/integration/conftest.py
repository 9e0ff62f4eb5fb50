"""Fixtures of the black-box tests: one open broker for all, a daemon for each module that can share one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A broker that anybody may use; tests keep apart by topic prefix and leave it running."""
    running = Broker().start()
    yield running
    running.close()


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test uses."""
    return f"test/{next(_numbers)}"


@pytest.fixture(scope="module")
def module_prefix() -> str:
    """A topic prefix for a module's shared daemon."""
    return f"test/m{next(_numbers)}"


@pytest.fixture
def new_daemon() -> Iterator[Callable[..., Daemon]]:
    """Make daemons (not started yet) that end with the test."""
    made: list[Daemon] = []

    def make(**options: Any) -> Daemon:
        daemon = Daemon(**options)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.close()


@pytest.fixture(scope="session")
def unique() -> Callable[..., str]:
    """Return names that no other test of the run uses: `unique("password")` is "n17_password"."""

    def name(stem: str, start: str = "n") -> str:
        return f"{start}{next(_numbers)}_{stem}"

    return name
