"""A listener on the bus that keeps all it hears, verified, in order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from secretsd_bus import BusSettings, Event, KeyRing, Link, Message, Refused, Topics, Verifier

from tests.support import schemas
from tests.support.waiting import PATIENCE_SECS


@dataclass(frozen=True)
class Heard:
    """One message: what came, and the verified event in it, or the slug of the refusal."""

    topic: str
    payload: bytes
    retain: bool
    event: Event | None
    refused: str | None


class Tap:
    """Subscribes to a prefix on a thread of its own. A context manager; entering waits for the SUBACK."""

    def __init__(
        self,
        url: str,
        prefix: str,
        keys: KeyRing,
        *,
        username: str | None = None,
        password_file: Path | None = None,
        ca_file: Path | None = None,
        filters: Sequence[str] | None = None,
        client_id: str = "tap",
    ) -> None:
        self._settings = BusSettings(
            url=url, topic_prefix=prefix, username=username, password_file=password_file, ca_file=ca_file
        )
        self.topics = Topics(prefix)
        self._verifier = Verifier(self.topics, keys)
        self._filters = list(filters or [f"{prefix}/#"])
        self._client_id = f"{client_id}-{id(self):x}"
        self._heard: list[Heard] = []
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tap", daemon=True)
        self._link: Link | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(PATIENCE_SECS)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link is not None:
            asyncio.run_coroutine_threadsafe(self._link.disconnect(), self._loop).result(PATIENCE_SECS)
        self._stop()
        for event in self.events if error is None else ():
            schemas.conforms(event.raw)

    @property
    def heard(self) -> list[Heard]:
        """Everything so far, in order of arrival."""
        with self._news:
            return list(self._heard)

    @property
    def events(self) -> list[Event]:
        """The verified events so far; one that is published on two topics is here twice."""
        return [heard.event for heard in self.heard if heard.event is not None]

    @property
    def refusals(self) -> list[Heard]:
        """What did not verify, the key sets and what is for Home Assistant (which counts for nobody) aside."""
        return [heard for heard in self.heard if heard.refused is not None]

    def on(self, topic: str) -> list[Heard]:
        """Return what came on one topic."""
        return [heard for heard in self.heard if heard.topic == topic]

    def wait(self, predicate: Callable[[Heard], object], what: str, *, within: float = PATIENCE_SECS) -> Heard:
        """Return the first message, already heard or still to come, for which `predicate` holds."""
        deadline = time.monotonic() + within
        seen = 0
        with self._news:
            while True:
                for heard in self._heard[seen:]:
                    if predicate(heard):
                        return heard
                seen = len(self._heard)
                left = deadline - time.monotonic()
                if left <= 0:
                    topics = [heard.topic for heard in self._heard[-12:]]
                    raise AssertionError(f"not within {within:g} s: {what}; the last topics: {topics}")
                self._news.wait(left)

    def wait_topic(self, topic: str, *, within: float = PATIENCE_SECS) -> Heard:
        """Return the first message on `topic`."""
        return self.wait(lambda heard: heard.topic == topic, f"a message on {topic}", within=within)

    def wait_request(self, request_id: str) -> Event:
        """Return the audit event of one HTTP request (its X-Request-Id)."""
        return self.wait_event(lambda event: event.data.get("request_id") == request_id, "a request's event")

    def wait_event(self, predicate: Callable[[Event], object], what: str, *, within: float = PATIENCE_SECS) -> Event:
        """Return the first verified event for which `predicate` holds."""
        heard = self.wait(
            lambda candidate: candidate.event is not None and predicate(candidate.event), what, within=within
        )
        assert heard.event is not None
        return heard.event

    def wait_lost(self) -> None:
        """Wait until the connection has ended from the other side, and all that came on it is heard."""
        asyncio.run_coroutine_threadsafe(self._lost(), self._loop).result(PATIENCE_SECS)

    async def _lost(self) -> None:
        assert self._link is not None
        await self._link.closed

    async def _open(self) -> None:
        self._link = await Link.connect(self._settings, client_id=self._client_id, on_message=self._hear)
        await self._link.subscribe(self._filters)

    def _hear(self, message: Message) -> None:
        event: Event | None = None
        refused: str | None = None
        unsigned = tuple(f"{self.topics.prefix}/{what}/" for what in ("keys", "homeassistant"))
        if not message.topic.startswith(unsigned):
            try:
                event = self._verifier.verify(message.topic, message.payload)
            except Refused as refusal:
                refused = refusal.slug
        with self._news:
            self._heard.append(Heard(message.topic, message.payload, message.retain, event, refused))
            self._news.notify_all()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECS)
        self._loop.close()
