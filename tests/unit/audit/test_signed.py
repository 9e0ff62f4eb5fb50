from __future__ import annotations

import json
from typing import Any

import pytest
from secretsd_bus import KeyRing, VerifyKey

from secretsd.audit import signed
from secretsd.audit.signed import NotSigned
from secretsd.backup import manifest
from tests.vectors import generate

VECTORS: dict[str, list[dict[str, Any]]] = {
    name: json.loads((generate.FOLDER / "backup" / f"{name}.json").read_text()) for name in ("accepted", "refused")
}
RING = KeyRing([VerifyKey.from_jwk(json.loads((generate.FOLDER / "events" / "keys.json").read_text())["trusted"])])


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda vector: vector["name"])
def test_a_whole_document_is_accepted(vector: dict[str, Any]) -> None:
    signed.decode(vector["kind"], vector["document"].encode()).check(RING)


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_a_bad_document_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    with pytest.raises(NotSigned, match=vector["reason"]):
        signed.decode(vector["kind"], vector["document"].encode()).check(RING)


def test_a_manifest_of_the_vectors_is_understood_member_by_member() -> None:
    data = next(vector["document"] for vector in VECTORS["accepted"] if vector["kind"] == "backup")
    assert manifest.decode(data.encode()).manifest.checkpoint.sequence == 42
