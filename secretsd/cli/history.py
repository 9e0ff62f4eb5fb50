"""The audit log's lines over HTTP, page by page, for tail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import click
import msgspec
from secretsd_bus import parse_time, rfc3339

from secretsd.cli.errors import Unreachable
from secretsd.cli.session import Session
from secretsd.model import parse_duration

PAGE: Final = 1000


class _Numbered(msgspec.Struct):
    """As much of a line as paging needs."""

    sequence: str


def parse_since(text: str, *, now: datetime | None = None) -> str:
    """Return the time that `text` means, as RFC 3339: itself, or a duration before now. Raises UsageError."""
    try:
        parse_time(text)
    except ValueError:
        pass
    else:
        return text
    try:
        ago_ms = parse_duration(text)
        if ago_ms is not None:
            return rfc3339(int((now or datetime.now(UTC)).timestamp() * 1000) - ago_ms)
    except ValueError:
        pass
    raise click.UsageError("--since takes a duration (2h, 30m, 7d) or a time, as in 2026-11-23T17:00:00.000Z")


class History:
    """What the log holds from a time on, and what has come to it since."""

    def __init__(self, session: Session, since: str) -> None:
        self._session = session
        self._since = since

    async def lines(self, after: int | None) -> AsyncIterator[bytes]:
        """Yield the lines after a sequence (None: since the time asked for) up to now. Raises Failed, Unreachable."""
        query = f"since={quote(self._since)}" if after is None else f"after={after}"
        while True:
            answer = await self._session.fetch(f"/audit?{query}&limit={PAGE}")
            lines = answer.body.splitlines()
            for line in lines:
                yield line
            if len(lines) < PAGE:
                return
            query = f"after={_sequence(lines[-1])}"


def _sequence(line: bytes) -> int:
    """Return where the next page begins; what the line says of itself is verified by who shows it."""
    try:
        return int(msgspec.json.decode(line, type=_Numbered).sequence)
    except (msgspec.MsgspecError, ValueError):
        pass
    raise Unreachable("the answer isn't an audit log of jarvis-secretsd")
