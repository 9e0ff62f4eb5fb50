"""The vectors hold for the writer's encoder and for the reader, and the generator reproduces them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from secretsd_bus import KeyRing, Refused, Topics, Verifier, VerifyKey, canonical, follow_published, verify_line

from tests.vectors import generate

FILES = {path: path.read_text() for path in (generate.FOLDER / "events").glob("*.json")}
VECTORS: dict[str, Any] = {path.stem: json.loads(text) for path, text in FILES.items()}
KEYS = VECTORS["keys"]


def payload(vector: dict[str, str]) -> bytes:
    if "payload" in vector:
        return vector["payload"].encode()
    return base64.b64decode(vector["payload_base64"])


def ring() -> KeyRing:
    return KeyRing([VerifyKey.from_jwk(KEYS["trusted"])])


def verifier() -> Verifier:
    return Verifier(Topics(KEYS["topic_prefix"]), ring())


def test_the_generator_reproduces_every_file_byte_for_byte() -> None:
    rendered = {path: text for path, text in generate.rendered().items() if path in FILES}
    assert rendered == FILES


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda vector: vector["name"])
def test_a_good_event_is_accepted_on_each_of_its_topics_and_on_no_other(vector: dict[str, Any]) -> None:
    data = payload(vector)
    for topic in vector["topics"]:
        event = verifier().verify(topic, data)
        assert event.raw == data
    assert Topics(KEYS["topic_prefix"]).of(event) == set(vector["topics"])
    assert verify_line(data, ring()) == event


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_a_bad_message_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refusal:
        verifier().verify(vector["topic"], payload(vector))
    assert refusal.value.slug == vector["slug"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_a_line_of_a_log_is_refused_for_the_same_reason_wherever_it_stands(vector: dict[str, Any]) -> None:
    if vector["slug"] == "wrong-topic":
        verify_line(payload(vector), ring())
    else:
        with pytest.raises(Refused) as refusal:
            verify_line(payload(vector), ring())
        assert refusal.value.slug == vector["slug"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_decoding_agrees_with_the_verifier_about_what_is_json_and_canonical(vector: dict[str, Any]) -> None:
    slug = None
    try:
        canonical.decode(payload(vector))
    except Refused as refusal:
        slug = refusal.slug
    # What the envelope must hold, only the verifier knows.
    assert slug == vector["slug"] or (slug is None and vector["slug"] != "not-json")


@pytest.mark.parametrize("vector", VECTORS["canonical"]["encode"], ids=lambda vector: vector["canonical"][:30])
def test_a_value_is_spelled_in_its_one_way(vector: dict[str, Any]) -> None:
    assert canonical.encode(vector["value"]) == vector["canonical"].encode()


@pytest.mark.parametrize("vector", VECTORS["canonical"]["refuse"], ids=lambda vector: vector["name"])
def test_a_value_outside_the_subset_is_neither_written_nor_read(vector: dict[str, Any]) -> None:
    value = json.loads(vector["json"])
    with pytest.raises(ValueError):  # noqa: PT011
        canonical.encode(value)
    with pytest.raises(Refused) as refusal:
        canonical.decode(b'{"a":' + vector["json"].encode() + b"}")
    assert refusal.value.slug == "not-canonical"


@pytest.mark.parametrize("vector", VECTORS["following"]["live"], ids=lambda vector: vector["name"])
def test_a_rotated_key_is_followed_only_where_both_keys_agree(vector: dict[str, Any]) -> None:
    keys = ring()
    event = verifier().verify(f"{KEYS['topic_prefix']}/audit/audit/key_rotated", payload(vector))
    new = keys.follow(event)
    assert (None if new is None else new.keyid) == vector["leads_to"]
    assert new is None or keys.get(new.keyid) == new


@pytest.mark.parametrize("vector", VECTORS["following"]["published"], ids=lambda vector: vector["name"])
def test_published_rotations_are_followed_line_by_line_from_the_known_key(vector: dict[str, Any]) -> None:
    known = VerifyKey.from_jwk(KEYS["trusted"])
    key, sequence = follow_published(known, vector["keys"])
    if vector["leads_to"] is None:
        assert (key, sequence) == (known, -1)
    else:
        assert (key.keyid, sequence) == (vector["leads_to"], vector["sequence"])
