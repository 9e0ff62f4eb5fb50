"""Holds every message and every audit line that the suite sees to the published schema of its type."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
PREFIX = "jarvis.secretsd."


def conforms(raw: bytes) -> None:
    """Assert that an event is what its schema says, without a member in `data` that the schema doesn't name."""
    event = json.loads(raw)
    problems = [f"{error.instance_path}: {error.message}" for error in _validator(event["type"]).iter_errors(event)]
    assert not problems, f"{event['type']} is not what docs/schemas says: {problems}"


def lines_conform(log: Path) -> None:
    """Assert it for the whole lines of an audit log; what is no event (a test may have put it there) is passed over."""
    if not log.is_file():
        return
    for line in log.read_bytes().splitlines():
        try:
            kind = json.loads(line)["type"]
        except (ValueError, KeyError, TypeError):
            continue
        assert kind.removeprefix(PREFIX) in known(), f"{kind} has no schema in docs/schemas"
        conforms(line)


@cache
def known() -> frozenset[str]:
    """Return the types that have a schema, without their prefix."""
    return frozenset(path.name.removesuffix(".json") for path in SCHEMAS.glob("*.json"))


@cache
def _validator(kind: str) -> Any:
    path = SCHEMAS / f"{kind.removeprefix(PREFIX)}.json"
    assert path.is_file(), f"{kind} has no schema in docs/schemas"
    schema = json.loads(path.read_text())
    # Readers let unknown members of `data` be; what the daemon itself writes has to be described.
    schema["properties"]["data"]["additionalProperties"] = False
    return jsonschema_rs.validator_for(schema, validate_formats=True)
