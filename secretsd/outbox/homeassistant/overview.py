"""The overview: everything that the device's own entities show, in one retained JSON object. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from secretsd_bus import rfc3339

from secretsd.model import NEVER_MS, Status
from secretsd.outbox.homeassistant.tally import Tally
from secretsd.vault.document import SecretRecord

NAMES_MOST: Final = 10
"""Names in a list: attributes are kept by Home Assistant's recorder with each change."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong besides expired secrets, in words for people.

    `kind` is `rotation` (of the schedule), `other end` (a rotator), `chain`, `broker`, `clock` or `laggards`.
    """

    kind: str
    words: str


def overview(secrets: Mapping[str, SecretRecord], troubles: list[Trouble], tally: Tally, now_ms: int) -> dict[str, Any]:
    """Return the overview at `now_ms` (epoch ms). Names and times are in it, never a value."""
    by_expiry = sorted((record.expires_at, name) for name, record in secrets.items() if record.expires_at < NEVER_MS)
    names: dict[Status, list[str]] = {"active": [], "expiring": [], "expired": []}
    for _, name in by_expiry:
        names[secrets[name].status].append(name)
    ahead = next(((expiry, name) for expiry, name in by_expiry if expiry > now_ms), None)
    recent = tally.recent(now_ms)
    expired, expiring = len(names["expired"]), len(names["expiring"])
    problems = [f"{trouble.kind}: {trouble.words}" for trouble in troubles]
    if expired:
        problems.insert(0, f"expired: {expired} secret{'s' if expired > 1 else ''}")
    return {
        "problem": bool(problems),
        "problems": problems,
        "secrets": len(secrets),
        "active": len(secrets) - expiring - expired,
        "expiring": expiring,
        "expired": expired,
        "expiring_names": names["expiring"][:NAMES_MOST],
        "expired_names": names["expired"][:NAMES_MOST],
        "next_expiry": None if ahead is None else rfc3339(ahead[0]),
        "next_expiry_name": None if ahead is None else ahead[1],
        "denials": tally.denials,
        "denials_24h": recent.denials,
        "rotations": tally.rotations,
        "rotations_24h": recent.rotations,
    }
