"""Documents that the log's key signs: a backup's manifest and the record of a pruning; whole ones, and refused ones."""

from __future__ import annotations

from typing import Any

from secretsd_bus import SigningKey, b64url_encode, canonical

from tests.vectors.event_vectors import FOREIGN, LOG_ID, TIME, TRUSTED

HEAD = "B" * 43
KINDS = ("backup", "audit-pruned")


def build() -> dict[str, Any]:
    return {"accepted": accepted(), "refused": refused()}


def document(kind: str) -> dict[str, Any]:
    if kind == "audit-pruned":
        return {
            "format": 1,
            "log_id": LOG_ID,
            "last": 42,
            "head": HEAD,
            "key_rotations": [],
            "prunings": [{"at": TIME, "before": TIME, "first": 1, "last": 42}],
        }
    part = {"size": 3, "sha256": "ab" * 32}
    return {
        "format": 1,
        "created_at": TIME,
        "version": "0.1.0",
        "node": "pi-5.home",
        "vault_id": "mWb0Xo9sT1qJ4rVf7KdZcA",
        "checkpoint": {
            "epoch": "e" * 22,
            "generation": 7,
            "log_id": LOG_ID,
            "first": 1,
            "sequence": 42,
            "head": HEAD,
        },
        "files": dict.fromkeys(("vault.json", "audit.sign.key", "audit.sign.pub", "audit.jsonl"), part),
    }


def signed(kind: str, members: dict[str, Any], key: SigningKey = TRUSTED) -> dict[str, Any]:
    whole = {**members, "kind": f"jarvis.secretsd.{kind}", "keyid": key.keyid}
    return {**whole, "signature": b64url_encode(key.sign(canonical.encode(whole)))}


def text(value: dict[str, Any]) -> str:
    return canonical.encode(value).decode() + "\n"


def accepted() -> list[dict[str, Any]]:
    return [{"name": kind, "kind": kind, "document": text(signed(kind, document(kind)))} for kind in KINDS]


def refused() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for kind, other in zip(KINDS, reversed(KINDS), strict=True):
        good = signed(kind, document(kind))
        unsigned = {name: member for name, member in good.items() if name != "signature"}
        for name, data, reason in (
            ("another-kind", text(signed(other, document(other))), f"it is no {kind.replace('-', ' ')}"),
            ("altered", text({**good, "format": 2}), "it was altered"),
            ("foreign-key", text(signed(kind, document(kind), FOREIGN)), "none of those trusted"),
            ("no-signature", text(unsigned), "truncated or was edited"),
            ("not-canonical", " " + text(good), "truncated or was edited"),
        ):
            cases.append({"name": f"{kind}-{name}", "kind": kind, "document": data, "reason": reason})
    return cases
