"""The running daemon does what its OpenAPI document says, for requests that schemathesis makes from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import ignored_auth

from tests.support.daemon import Daemon

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"

# Two members that exclude each other, a position of another epoch, a condition that fails: the document says in words
# what no schema can, and these answers are described for each call.
DECIDED = ["2xx", "304", "400", "401", "403", "404", "409", "410", "412", "422"]
CONFIG = {"checks": {"positive_data_acceptance": {"expected-statuses": DECIDED}}}

schema = schemathesis.openapi.from_path(DOCUMENT, config=schemathesis.Config.from_dict(CONFIG))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon() as running:
        yield running


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_call_is_as_described(case: Any, daemon: Daemon) -> None:
    # Who presents no credential or a wrong one waits two seconds, so none is made up here. For the same reason the
    # check `ignored_auth`, which sends two such, is in test_described_refusals.py.
    case.headers.pop("Authorization", None)
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{daemon.port}", headers={"X-Jarvis-Client": "admin"}, excluded_checks=[ignored_auth]
    )
