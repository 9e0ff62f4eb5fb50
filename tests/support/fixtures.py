"""What tests of real processes share: one open broker for all, one of its own for who kills it, daemons that end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon

numbers = itertools.count(1)
"""Whatever has to be named once in a run."""


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A broker that anybody may use; tests keep apart by topic prefix and leave it running."""
    running = Broker().start()
    yield running
    running.close()


@pytest.fixture
def own() -> Iterator[Broker]:
    """A broker that a test may kill."""
    running = Broker().start()
    yield running
    running.close()


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test uses."""
    return f"test/{next(numbers)}"


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
