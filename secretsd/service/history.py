"""Which version a request means, and what changed since a position: questions to one document."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from secretsd.errors import Problem
from secretsd.model import Change
from secretsd.service.answers import Selector
from secretsd.vault.document import Document, SecretRecord, VersionRecord


def readable_version(record: SecretRecord, selector: Selector, now_ms: int) -> VersionRecord:
    """Return the version that `selector` means, current or in grace. Raises Problem `version-not-found`.

    A grace that is over counts as over from its instant, whether or not the schedule has been there.
    """
    in_grace = [version for version in record.in_grace if (version.grace_until or 0) > now_ms]
    if selector.previous:
        if in_grace:
            return in_grace[0]
        raise Problem("version-not-found", "No earlier version is in grace; read the current one.")
    for version in (record.current, *in_grace):
        if selector.version is not None:
            if version.version == selector.version:
                return version
        elif selector.kid is None or version.kid == selector.kid:
            return version
    raise Problem("version-not-found", "This version is neither current nor in grace; read the current one.")


def changes_since(document: Document, since: str | None, may_read: Callable[[str], bool]) -> list[Change]:
    """Return what became of the readable names after the position `since`, oldest first; None: of all of them.

    Raises Problem `invalid-request` for what is no position, `history-gone` where only starting over helps.
    """
    after = -1 if since is None else _generation(document, since)
    found = [
        Change(
            name=name,
            version=record.current.version,
            kid=record.current.kid,
            status=record.status,
            generation=record.generation,
        )
        for name, record in _after(document.secrets, after)
        if may_read(name)
    ]
    found.extend(
        Change(name=name, version=stone.version, kid=stone.kid, status="deleted", generation=stone.generation)
        for name, stone in document.tombstones.items()
        if stone.generation > after and may_read(name)
    )
    return sorted(found, key=lambda change: (change.generation, change.name))


def _after(records: Mapping[str, SecretRecord], after: int) -> list[tuple[str, SecretRecord]]:
    return [(name, record) for name, record in records.items() if record.generation > after]


def _generation(document: Document, since: str) -> int:
    epoch, separator, digits = since.rpartition(":")
    if not separator or not epoch or not digits.isascii() or not digits.isdigit() or len(digits) > 16:
        raise Problem("invalid-request", "since: EPOCH:GENERATION, as Vault-Generation has it.", status=400)
    generation = int(digits)
    if epoch != document.epoch:
        gone = "the vault has begun a new epoch"
    elif generation > document.generation:
        gone = "that position is ahead of the vault"
    elif generation < document.policy.generation:
        gone = "the policy has changed since"
    else:
        return generation
    raise Problem(
        "history-gone",
        f"No changes can be told from there: {gone}. Drop the whole cache and ask again without since.",
        position=document.position,
    )
