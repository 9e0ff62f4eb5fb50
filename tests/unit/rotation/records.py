"""Records of secrets to decide about; no value is sealed in them."""

from __future__ import annotations

from typing import Any

from secretsd.model import NEVER_MS, SecretType
from secretsd.policy import SecretSettings
from secretsd.rotation.transitions import created
from secretsd.vault.document import SecretRecord, VersionRecord, Wishes
from tests.unit.support.clock import DAY_MS, START_MS


def version(number: int, created_at: int = START_MS, grace_until: int | None = None) -> VersionRecord:
    return VersionRecord(number, f"kid-{number}", created_at, "utf-8", "nonce", f"ciphertext-{number}", grace_until)


def settings(**changes: Any) -> SecretSettings:
    kind: SecretType = "password"
    values: dict[str, Any] = {
        "type": kind,
        "rotation": "manual",
        "rotation_ms": 90 * DAY_MS,
        "grace_ms": 2 * DAY_MS,
        "jwks": False,
    }
    return SecretSettings(**values | changes)


def record(**changes: Any) -> SecretRecord:
    """A new secret under `settings(**changes)`."""
    return created(version(1), settings(**changes), Wishes(), generation=1)


__all__ = ["NEVER_MS", "record", "settings", "version"]
