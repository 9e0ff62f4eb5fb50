"""What the audit log tells of a policy: who did, or tried to do, what; and what another policy would have said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

from secretsd.policy.explain import CONCERN_ALL, NEEDS, Explained, Verdict
from secretsd.policy.rules import SCHEDULE

_BY_TYPE: Final = {
    "jarvis.secretsd.secret.created": "create",
    "jarvis.secretsd.secret.updated": "update",
    "jarvis.secretsd.secret.rotated": "rotate",
    "jarvis.secretsd.secret.deleted": "delete",
}


_JUDGED: Final = {"jarvis.secretsd.secret.read": True, "jarvis.secretsd.access.denied": False}
"""Accesses that the policy has judged, and how."""


class Line(Struct, frozen=True):
    """As much of a verified line as is looked at."""

    time: str
    type: str
    data: dict[str, Any]


@dataclass(frozen=True, order=True)
class Use:
    """What somebody did, or was denied."""

    client: str
    action: str
    name: str


@dataclass(frozen=True)
class Record:
    """How often a use happened, when last, and whether it was allowed then."""

    count: int
    last: str
    allowed: bool


@dataclass(frozen=True)
class Change:
    """A use that another policy judges otherwise."""

    use: Use
    record: Record
    verdict: Verdict

    @property
    def word(self) -> str:
        """What it means for the client."""
        return "gains" if self.verdict.allowed else "loses"


def use_of(line: Line) -> tuple[Use, bool] | None:
    """Return the use that a line tells of, and whether it was allowed; None for what no rule about a name decides."""
    client, name = line.data.get("client"), line.data.get("name")
    action: Any
    if line.type in _BY_TYPE:
        action, allowed = _BY_TYPE[line.type], True
    elif line.type in _JUDGED:
        action, allowed = line.data.get("action"), _JUDGED[line.type]
    else:
        return None
    if action not in NEEDS or NEEDS[action] in CONCERN_ALL or client == SCHEDULE:
        return None
    if not isinstance(client, str) or not isinstance(name, str):
        return None
    return Use(client, action, name), allowed


def gather(lines: Iterable[Line]) -> dict[Use, Record]:
    """Return each use of the log, oldest line first; the last time decides whether it is allowed."""
    found: dict[Use, Record] = {}
    for line in lines:
        told = use_of(line)
        if told is not None:
            use, allowed = told
            count = found[use].count if use in found else 0
            found[use] = Record(count + 1, line.time, allowed)
    return found


def changes(uses: dict[Use, Record], policy: Explained) -> list[Change]:
    """Return the uses that `policy` judges otherwise than they were judged last; losses first."""
    found = []
    for use, record in sorted(uses.items()):
        verdict = policy.why(use.client, NEEDS[use.action], use.name)
        if verdict.allowed != record.allowed:
            found.append(Change(use, record, verdict))
    return sorted(found, key=lambda change: change.verdict.allowed)
