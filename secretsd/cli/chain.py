"""The audit log verified over HTTP: every signature, and that each line follows on the one before."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from secretsd_bus import KeyRing, VerifyKey

from secretsd.audit.verifier import Walk
from secretsd.cli.errors import Failed
from secretsd.cli.session import Session

PAGE: Final = 10_000
_BEGIN_AT: Final = re.compile(r"after=([0-9]{1,16})")


@dataclass(frozen=True)
class Chain:
    """What was verified: lines from `first` to `last`; `broken` says what is wrong with the one after that."""

    lines: int
    first: int | None
    last: int | None
    head: str | None
    broken: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return {"ok": self.broken is None, **asdict(self)}


def verify(
    session: Session, keys: Sequence[VerifyKey], newest: int | None, progress: Callable[[int], None] | None
) -> Chain:
    """Verify all lines that are still there; `newest` is the line that has to be reached. Raises Failed, Unreachable.

    `keys` are those that the log may begin with; a rotated one is followed.
    """
    walk = Walk(KeyRing(keys))
    broken: str | None = None
    after = 0
    while broken is None:
        lines = _page(session, after)
        for line in lines:
            broken = walk.step(line)
            if broken is not None:
                break
        if progress is not None:
            progress(walk.lines)
        if len(lines) < PAGE or walk.last == after:
            break
        after = walk.last or 0
    if broken is None and newest is not None and (walk.last or 0) < newest:
        broken = f"the daemon says that there is a line {newest}, and gives none after {walk.last or 0}"
    return Chain(walk.lines, walk.first, walk.last, walk.head, broken)


def _page(session: Session, after: int) -> list[bytes]:
    """Return the lines after a sequence; of a log whose beginning was removed, those from its first line on."""
    try:
        return session.get(f"/audit?after={after}&limit={PAGE}").body.splitlines()
    except Failed as failed:
        begin = _BEGIN_AT.search(failed.message) if failed.slug == "history-gone" and after == 0 else None
        if begin is None:
            raise
    return session.get(f"/audit?after={begin[1]}&limit={PAGE}").body.splitlines()


def published_keys(session: Session, *, past: bool) -> list[VerifyKey]:
    """Return the keys that the daemon names, with `past` those that sign no more too. Raises Failed for none."""
    keys: list[VerifyKey] = []
    jwks = session.get("/keys").json()
    for jwk in jwks.get("keys", ()) if isinstance(jwks, dict) else ():
        try:
            if past or "last_sequence" not in jwk:
                keys.append(VerifyKey.from_jwk(jwk))
        except (ValueError, TypeError, AttributeError):
            continue  # of a kind that this release doesn't know
    if not keys:
        raise Failed("the daemon names no key that events could be verified with", hint="give it with --pubkey")
    return keys
