"""The interface on paper: schemas of events and the AsyncAPI document, made from the code's own types."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from secretsd_bus import PREFIX, SECRET_VERBS, Event, Topics
from secretsd_bus.asyncapi import DEFAULT_PREFIX, document, main
from secretsd_bus.events import UNCHAINED
from secretsd_bus.payloads import KINDS
from secretsd_bus.schemas import event_schema

from tests.support import schemas

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
ACCEPTED: list[dict[str, Any]] = json.loads((ROOT / "tests" / "vectors" / "events" / "accepted.json").read_text())
BEYOND = {"unknown-data", "largest-integer", "deepest", "time-without-fraction"}
"""Vectors of what a verifier has to bear with and no daemon writes."""


def parsed(payload: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(payload)
    return event


def test_what_is_written_is_what_the_code_says(tmp_path: Path) -> None:
    main(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.json")}
    there = {path.relative_to(DOCS): path.read_bytes() for path in DOCS.glob("schemas/*.json")}
    there[Path("asyncapi.json")] = (DOCS / "asyncapi.json").read_bytes()
    assert made == there, "run `make reference`"


def test_the_document_is_valid_asyncapi() -> None:
    official = json.loads((ROOT / "tests" / "schemas" / "asyncapi-3.0.0.json").read_text())
    problems = [str(error) for error in jsonschema_rs.validator_for(official).iter_errors(document())]
    assert problems == []


def test_every_reference_in_the_document_leads_somewhere() -> None:
    whole = document()
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(whole)):
        place: Any = whole
        for step in reference.split("/"):
            place = place[step]


@pytest.mark.parametrize("vector", ACCEPTED, ids=lambda vector: vector["name"])
def test_every_accepted_event_has_a_channel_on_each_of_its_topics(vector: dict[str, Any]) -> None:
    event = parsed(vector["payload"])
    addresses = {channel["address"] for channel in document()["channels"].values()}
    node = event["source"].rpartition("/")[2]
    for topic in vector["topics"]:
        general = topic.replace(f"/secret/{event['data'].get('name')}/", "/secret/{name}/", 1)
        general = re.sub(rf"/(checkpoint|status)/{re.escape(node)}$", r"/\1/{node}", general)
        assert general in addresses


def test_every_type_has_the_channels_that_its_topics_say() -> None:
    addresses = {channel["address"] for channel in document()["channels"].values()}
    topics = Topics(DEFAULT_PREFIX)
    for kind in KINDS:
        event = Event(kind, None, "", "", "/jarvis/secretsd/node", "", {"name": "name"}, None, None, b"")
        general = {
            topic.replace("/secret/name/", "/secret/{name}/").removesuffix("/node") for topic in topics.of(event)
        }
        assert general <= {address.removesuffix("/{node}") for address in addresses}, kind


def test_the_table_of_types_is_whole() -> None:
    assert {kind for kind, described in KINDS.items() if not described.chained} == UNCHAINED
    assert {kind for kind in KINDS if kind.startswith("secret.")} >= {f"secret.{verb}" for verb in SECRET_VERBS}
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", (DOCS / "events.md").read_text()))
    short = {f"secret.{verb}" for verb in re.findall(r"`\.([a-z]+)`", (DOCS / "events.md").read_text())}
    assert set(KINDS) <= named | short, "docs/events.md names every type"


@pytest.mark.parametrize("vector", [one for one in ACCEPTED if one["name"] not in BEYOND], ids=lambda one: one["name"])
def test_accepted_events_are_what_their_schema_says(vector: dict[str, Any]) -> None:
    event = parsed(vector["payload"])
    kind = event["type"].removeprefix(PREFIX)
    problems = [str(error) for error in jsonschema_rs.validator_for(event_schema(kind)).iter_errors(event)]
    assert problems == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sequence": "42"}, "sequence"),
        ({"time": "2026-11-23T17:00:00Z"}, "time"),
        ({"signature": "short"}, "signature"),
        ({"extra": 1}, "extra"),
        ({"data": {}}, "data"),
    ],
)
def test_a_schema_refuses_what_is_no_such_event(change: dict[str, Any], said: str) -> None:
    (rotated,) = [vector for vector in ACCEPTED if vector["name"] == "secret-rotated"]
    event = parsed(rotated["payload"]) | change
    problems = [str(error) for error in jsonschema_rs.validator_for(event_schema("secret.rotated")).iter_errors(event)]
    assert problems
    assert said in problems[0]


def test_what_the_daemon_writes_may_hold_nothing_undescribed() -> None:
    (rotated,) = [vector for vector in ACCEPTED if vector["name"] == "secret-rotated"]
    event = parsed(rotated["payload"])
    schemas.conforms(json.dumps(event).encode())
    event["data"]["colour"] = "red"
    with pytest.raises(AssertionError, match="colour"):
        schemas.conforms(json.dumps(event).encode())
