"""Fixtures of the black-box tests, besides those of tests/support: names and prefixes for daemons that are shared."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.fixtures import numbers


@pytest.fixture(scope="module")
def module_prefix() -> str:
    """A topic prefix for a module's shared daemon."""
    return f"test/m{next(numbers)}"


@pytest.fixture(scope="session")
def unique() -> Callable[..., str]:
    """Return names that no other test of the run uses: `unique("password")` is "n17_password"."""

    def name(stem: str, start: str = "n") -> str:
        return f"{start}{next(numbers)}_{stem}"

    return name
