"""Listening to the daemon on the bus: connect, subscribe, verify, hand on; and begin again when it breaks.

Nothing here decides what a message means: verified ones go to the state. Nothing here is needed to serve a
secret: without the bus values only live shorter.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from random import random
from typing import Any

from secretsd_bus import BusDenied, BusError, BusLost, Event, Link, Message, Refused, Topics

from secretsd_client import _model
from secretsd_client._daemon import Daemon
from secretsd_client._errors import SecretsError
from secretsd_client._settings import Settings
from secretsd_client._state import State
from secretsd_client._trust import Trust

SILENCE_SECS = 60.0
"""After so long with nothing that vouches, a connection is given up and `GET /bus` asked again."""
_FILTERS_AT_ONCE = 100
_RECONNECT_FIRST, _RECONNECT_MOST = 0.5, 30.0
_WARN_EVERY = 60.0

_log = logging.getLogger("secretsd_client")


class Listener:
    """One client's ear on the bus; `run` never returns and raises nothing but its cancellation."""

    def __init__(
        self,
        settings: Settings,
        trust: Trust,
        *,
        daemon: Daemon,
        state: State,
        synchronise: Callable[[], Awaitable[None]],
        poke: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._trust = trust
        self._daemon = daemon
        self._state = state
        self._synchronise = synchronise
        self._poke = poke
        self._clock = clock
        self._topics: Topics | None = None
        self._subscribed: set[str] = set()
        self._look = asyncio.Event()
        self._keys_doubted = False
        self._keys_asked_at = float("-inf")
        self._heard = False
        self._refused_since_warning = 0
        self._told = ""
        self._warned_at = float("-inf")
        self.ready = asyncio.Event()

    def names_changed(self, name: str) -> None:
        """Subscribe to a name's topics, soon, if that hasn't been done."""
        if name not in self._subscribed:
            self._look.set()

    async def run(self) -> None:
        """Listen for ever."""
        failures = 0
        while True:
            try:
                info = await self._daemon.bus()
                self._state.bus_configured(info is not None, self._clock())
                self._poke()
                if info is None:
                    self.ready.set()  # there is nothing to wait for
                    await asyncio.sleep(self._state.times.ttl_without_bus)
                    continue
                reason = await self._listen(info)
            except (SecretsError, BusError) as error:
                reason = str(error)
            except Exception as error:  # noqa: BLE001 - whatever breaks here, it is a hint's loss: begin again
                reason = type(error).__name__
            failures = 0 if self.ready.is_set() else min(failures + 1, 16)
            self.ready.clear()
            pause = min(_RECONNECT_MOST, _RECONNECT_FIRST * 2**failures)
            pause *= 0.5 + random() / 2  # noqa: S311 - keeps clients out of step, no secret
            # Once an outage: what is tried for ever is told once at the level that people see.
            _log.log(
                logging.INFO if reason == self._told else logging.WARNING,
                "the bus is away (%s): changes are noticed later; trying again in %.1f s",
                reason,
                pause,
            )
            self._told = reason
            await asyncio.sleep(pause)

    async def _listen(self, info: _model.BusInfo) -> str:
        """Connect, subscribe, synchronise and stay; return why it ended."""
        settings = self._settings.bus(info)
        self._topics = topics = Topics(info.topic_prefix)
        await self._ask_keys(required=True)
        self._heard = False
        link = await Link.connect(
            settings,
            client_id=f"secretsd-client-{self._settings.client_id or 'unnamed'}-{secrets.token_hex(6)}",
            on_message=self._received,
        )
        self._told = ""
        try:
            self._state.counts["bus_connects"] += 1
            # The checkpoint first: a broker's queue may overflow with states, and this one heals the rest.
            await self._subscribe(
                link, [topics.checkpoint(info.node), topics.status(info.node), topics.audit("audit", "key_rotated")]
            )
            self._subscribed = set()
            await self._subscribe_names(link, topics)
            await self._synchronised(link)
            return await self._stay(link, topics)
        finally:
            await link.disconnect()

    async def _subscribe_names(self, link: Link, topics: Topics) -> None:
        self._look.clear()
        new = sorted(self._state.names() - self._subscribed)
        for first in range(0, len(new), _FILTERS_AT_ONCE):
            names = new[first : first + _FILTERS_AT_ONCE]
            await self._subscribe(link, [f"{topics.prefix}/secret/{name}/+" for name in names])
            self._subscribed.update(names)

    async def _subscribe(self, link: Link, filters: list[str]) -> None:
        """Subscribe; a refusal is counted, for it costs hints only. Raises BusLost when no answer comes."""
        try:
            async with asyncio.timeout(self._settings.timeout_secs):
                await link.subscribe(filters)
        except TimeoutError:
            raise BusLost("the broker answers no subscription") from None
        except BusDenied as refusal:
            counts = self._state.counts
            counts["subscriptions_refused"] += 1
            if counts["subscriptions_refused"] == 1:
                _log.warning("changes are noticed later than they could be: %s; look at the broker's ACL", refusal)

    async def _synchronised(self, link: Link) -> None:
        """Be ready when `/changes` has answered what was asked after the subscriptions, if the link lasts."""
        asked = asyncio.ensure_future(self._synchronise())
        try:
            either: set[asyncio.Future[Any]] = {asked, link.closed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                self.ready.set()
        finally:
            asked.cancel()

    async def _stay(self, link: Link, topics: Topics) -> str:
        connected_at = self._clock()
        warned = False
        while not link.closed.done():
            await self._something(link)
            if self._keys_doubted:
                await self._ask_keys(required=False)
            await self._subscribe_names(link, topics)
            now = self._clock()
            if not self._heard and not warned and now - connected_at > self._state.history.interval:
                warned = True
                _log.warning(
                    "the broker took our subscriptions and no valid checkpoint of %s comes: "
                    "look at its ACL for this client, and at JARVIS_SECRETS_PUBKEY",
                    topics.prefix,
                )
            if now - max(connected_at, self._state.history.vouched_until) > SILENCE_SECS:
                return "nothing vouches for what we have"
        return link.closed.result()

    async def _something(self, link: Link) -> None:
        """Wait for the end of the link, for a name or a key to see to, or a while."""
        look = asyncio.ensure_future(self._look.wait())
        try:
            either: set[asyncio.Future[Any]] = {look, link.closed}
            await asyncio.wait(either, timeout=5.0, return_when=asyncio.FIRST_COMPLETED)
        finally:
            look.cancel()

    async def _ask_keys(self, *, required: bool) -> None:
        """Ask HTTP for the signing keys: on connecting where none is pinned, and when one is unknown."""
        now = self._clock()
        if (required and self._trust.pinned) or (
            not required and now < self._keys_asked_at + self._state.history.interval
        ):
            return
        self._keys_asked_at, self._keys_doubted = now, False
        try:
            keys = await self._daemon.keys()
        except SecretsError:
            if required and not self._trust.known:
                raise
            return
        if not self._trust.learn(keys.keys, now) and required:
            raise SecretsError("the daemon gave no signing key that this client can use")

    def _received(self, message: Message) -> None:
        if self._topics is None:
            return
        now = self._clock()
        try:
            event = self._trust.verifier(self._topics, now).verify(message.topic, message.payload)
        except Refused as refusal:
            self._refused(refusal.slug, now)
            return
        self._hand_on(event, now)
        self._poke()

    def _hand_on(self, event: Event, now: float) -> None:
        counts = self._state.counts
        counts["verified"] += 1
        if event.type == "audit.checkpoint":
            if (seen := _model.checkpoint(event)) is not None:
                self._heard = True
                self._state.checkpoint(seen, now)
                return
        elif event.type == "daemon.status":
            if (session := _model.session_of(event)) is not None:
                self._state.history.session(session, now)
                return
        elif event.type == "audit.key_rotated":
            step = self._trust.follow(event, now)
            counts["repeated" if step == "repeated" else f"keys_{step}"] += 1
            if step == "not_followed":
                _log.warning("a new signing key was announced without its own proof, or by a key of the past: refused")
            return
        elif event.type.startswith("secret.") and (news := _model.announcement(event)) is not None:
            self._state.announced(news, now)
            return
        counts["not_understood"] += 1

    def _refused(self, slug: str, now: float) -> None:
        """Count a message that doesn't verify; say so once in a while; an unknown key may be a new one."""
        self._state.counts["refused"] += 1
        self._state.counts["refused_" + slug.replace("-", "_")] += 1
        self._refused_since_warning += 1
        if slug == "unknown-key" and not self._keys_doubted:
            self._keys_doubted = True
            self._look.set()
        if now >= self._warned_at + _WARN_EVERY:
            _log.warning(
                "%d message(s) on the bus refused, the last as %s: somebody else writes to our topics?",
                self._refused_since_warning,
                slug,
            )
            self._warned_at, self._refused_since_warning = now, 0
