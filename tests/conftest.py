"""What holds for all tests: the slow ones, those that deploy or start Home Assistant run only where `-m` asks."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

pytest_plugins = ["tests.support.fixtures", "tests.support.postgres"]

# A test never asserts a wall-clock time: a machine that does something else meanwhile breaks no promise of ours.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_configure() -> None:
    """Let SIGINT interrupt what the tests start: a shell's background job hands it down ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests marked `slow`, `deploy` or `home_assistant` out of an everyday run."""
    for marker in {"slow", "deploy", "home_assistant"} - set(config.getoption("-m").split()):
        skip = pytest.mark.skip(reason=f"{marker}: run with `-m {marker}`")
        for item in items:
            if item.get_closest_marker(marker) is not None:
                item.add_marker(skip)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a case by its parameter's place where its value is long or bytes: such values are often random.

    Every worker that shares the suite has to know a test by the same name.
    """
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 40) else None
