"""Fixtures of the fault tests of the daemon, besides those of tests/support."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Note a measured figure, for `--junitxml` and docs/reliability.md."""
    return lambda name, value: request.node.user_properties.append((name, value))
