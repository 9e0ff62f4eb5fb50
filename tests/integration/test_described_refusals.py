"""Every call that the OpenAPI document says needs a client refuses one that proves nothing, or proves it wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import ignored_auth

from tests.support.daemon import Daemon

# Each wrong credential costs its sender up to two seconds.
pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
ONCE = {"phases": {"coverage": {"enabled": False}}}

schema = schemathesis.openapi.from_path(DOCUMENT, config=schemathesis.Config.from_dict(ONCE))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon() as running:
        yield running


@schema.parametrize()
@settings(max_examples=1, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_call_refuses_who_proves_nothing(case: Any, daemon: Daemon) -> None:
    case.headers.pop("Authorization", None)
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{daemon.port}", headers={"X-Jarvis-Client": "admin"}, checks=[ignored_auth]
    )
