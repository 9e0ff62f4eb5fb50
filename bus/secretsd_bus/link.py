"""One connection to the broker.

Nothing is kept from one connection to the next: what matters stays owed by the caller until its future is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Self, TypeVar

from secretsd_bus._outgoing import Outgoing, Publish, fail
from secretsd_bus._tcp import Farewell, read_password, tls_context
from secretsd_bus._wire import Limits, Message, Protocol, Refusal, Will, Wire
from secretsd_bus.errors import BusDenied, BusLost, BusRejected, BusUnreachable
from secretsd_bus.settings import BusSettings

__all__ = ["CONTENT_TYPE", "Link", "Message", "Will"]

CONTENT_TYPE: Final = "application/cloudevents+json"

_UNSUPPORTED_VERSION: Final = 0x84
_PACKET_TOO_LARGE: Final = 0x95
_RETAIN_NOT_SUPPORTED: Final = 0x9A
_QOS_NOT_SUPPORTED: Final = 0x9B
_HEADER_MOST: Final = 128  # bytes of a PUBLISH besides topic and payload, the content type included
_FLUSH_SECS: Final = 1.0
_VERSION_5_SECS: Final = 3.0
"""How long a broker may think about a CONNECT of version 5: amqtt takes its bytes for 3.1.1 and waits for more."""
_VERSION_5_AGAIN_SECS: Final = 2.0
"""The same for one that has just answered a CONNECT of version 3.1.1."""


class _NoAnswer(Exception):
    """No CONNACK that can be read: the connection ended, or an old broker waits for ever on seeing version 5."""


class _OldBroker(Exception):
    """The broker says that it doesn't speak version 5."""


_Connected = TypeVar("_Connected", bound="Link")


class Link:
    """A connection: made by `connect`, gone when `closed` is done. Publishes and subscribes at QoS 1."""

    def __init__(self, protocol: Protocol, on_message: Callable[[Message], None] | None) -> None:
        """Not for callers: use `connect`."""
        self._loop = asyncio.get_running_loop()
        self._heard = on_message
        self._wire: Wire
        self._limits = Limits()
        self._outgoing = Outgoing(self._send, self._limits.window)
        self._answered: asyncio.Future[None] = self._loop.create_future()
        self._subscribing: dict[int, asyncio.Future[None]] = {}
        self._leaving = False
        self.protocol: Protocol = protocol
        """The version of MQTT spoken. In 3.1.1 a denied publish can't be told from a success."""
        self.closed: asyncio.Future[str] = self._loop.create_future()
        """Done with the reason, for people, as soon as the connection is lost or closed."""

    @classmethod
    async def connect(
        cls,
        settings: BusSettings,
        *,
        client_id: str,
        password: str | None = None,
        will: Will | None = None,
        on_message: Callable[[Message], None] | None = None,
        keepalive_secs: int = 20,
        timeout_secs: float = 10.0,
    ) -> Self:
        """Connect with a clean start, in MQTT 5, or in 3.1.1 where the broker doesn't speak 5.

        `password` takes the place of what the settings' file holds. `on_message` is called on the event loop; what
        it raises goes to the loop's exception handler. A broker that stops answering is noticed within a little over
        twice `keepalive_secs`. Raises BusUnreachable (nobody answers within `timeout_secs`, TLS fails, a file can't
        be read) or BusRejected (the broker refuses us).
        """
        where = f"{settings.host}:{settings.port}"
        credentials = None
        try:
            async with asyncio.timeout(timeout_secs):
                tls = await asyncio.to_thread(tls_context, settings)
                if settings.username is not None:
                    if password is None:
                        password = await asyncio.to_thread(read_password, settings)
                    credentials = (settings.username, password)

                async def attempt(protocol: Protocol, patience_secs: float | None) -> Self:
                    link = cls(protocol, on_message)
                    client = Wire.prepare(
                        protocol,
                        client_id,
                        tls=tls,
                        credentials=credentials,
                        will=will,
                        content_type=CONTENT_TYPE,
                        connect_secs=timeout_secs,
                    )
                    link._wire = Wire(client, protocol, link)
                    await link._open(settings.host, settings.port, keepalive_secs, patience_secs)
                    return link

                return await _newest(attempt)
        except TimeoutError:
            raise BusUnreachable(f"no MQTT broker answered at {where} within {timeout_secs:g} s") from None
        except _NoAnswer:
            hint = "does it want a client certificate" if settings.tls else "does it want TLS"
            raise BusUnreachable(f"{where} closed the connection without an answer: {hint}?") from None
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or str(error)
            raise BusUnreachable(f"TLS with {where} failed: {reason}") from error
        except OSError as error:
            raise BusUnreachable(f"can't connect to {where}: {error.strerror or error}") from error

    @property
    def window(self) -> int:
        """How many publishes may be on their way at once: the broker's receive maximum, at most 64."""
        return self._outgoing.window

    @property
    def in_flight(self) -> int:
        """How many publishes are not acknowledged yet, those that wait for their turn included."""
        return len(self._outgoing)

    @property
    def oldest_secs(self) -> float:
        """How long the broker has owed us the oldest acknowledgement; 0 when it owes none.

        A broker can answer pings and acknowledge nothing: whoever finds this too long calls `abort`.
        """
        oldest = self._outgoing.oldest
        return 0.0 if oldest is None else self._loop.time() - oldest.since

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, content_type: str = CONTENT_TYPE
    ) -> asyncio.Future[None]:
        """Publish at QoS 1; the future is done when the broker has acknowledged with a success.

        It fails with BusDenied when the broker refuses the message (MQTT 5; 0x10, nobody subscribed, is a
        success), and with BusLost when the connection goes first: then the message may have arrived or not.
        Beyond `window`, messages wait for their turn. Raises ValueError for a topic that can't be one.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        size = len(topic) + len(payload) + _HEADER_MOST
        if self._leaving or self.closed.done():
            fail(done, BusLost("the connection is closed"))
        elif self._limits.packet_bytes is not None and size > self._limits.packet_bytes:
            fail(done, BusDenied("the message is larger than the broker takes", _PACKET_TOO_LARGE))
        elif retain and not self._limits.retains:
            fail(done, BusDenied("the broker retains nothing", _RETAIN_NOT_SUPPORTED))
        else:
            self._outgoing.add(Publish(topic, payload, retain, content_type, done, self._loop.time()))
        return done

    async def wait_window(self) -> None:
        """Wait until a publish would go out at once. Raises BusLost when the connection goes."""
        await self._outgoing.room()

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe and wait for the broker's answer.

        Raises BusDenied when it refuses one of `filters`, BusLost when the connection goes, ValueError for what
        can't be a filter. Mosquitto grants what its ACL denies and then stays silent: an answer proves no right.
        """
        number = None if self._leaving or self.closed.done() else self._wire.subscribe(filters)
        if number is None:
            raise BusLost("the connection is closed")
        answer: asyncio.Future[None] = self._loop.create_future()
        self._subscribing[number] = answer
        try:
            await answer
        finally:
            self._subscribing.pop(number, None)

    async def disconnect(self) -> None:
        """Say goodbye, so that no will is published, after waiting a moment for acknowledgements."""
        if self._leaving or self.closed.done():
            return
        self._leaving = True
        try:
            if pending := self._outgoing.pending:
                await asyncio.wait(pending, timeout=_FLUSH_SECS)
            connection = self._wire.socket
            if connection is not None:
                with contextlib.closing(Farewell(connection)) as farewell:
                    self._wire.disconnect()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_FLUSH_SECS):
                            await asyncio.shield(self.closed)
                    await farewell.wait()
        finally:
            self.abort("closed")

    def abort(self, reason: str = "given up") -> None:
        """Drop the connection without a word: the broker publishes the will."""
        self._wire.drop()
        self.on_closed(reason)

    async def _open(self, host: str, port: int, keepalive_secs: int, patience_secs: float | None) -> None:
        """Connect and wait for the CONNACK. Raises OSError, BusRejected, _OldBroker or _NoAnswer."""
        if not await self._wire.dial(host, port, keepalive_secs):
            raise _NoAnswer
        try:
            async with asyncio.timeout(patience_secs):
                await self._answered
        except TimeoutError:
            self.abort()
            raise _NoAnswer from None
        except BaseException:
            self.abort()
            raise

    def _send(self, publish: Publish) -> int | None:
        return self._wire.publish(
            publish.topic, publish.payload, retain=publish.retain, content_type=publish.content_type
        )

    # What the wire brings

    def on_connack(self, refusal: Refusal | None, limits: Limits) -> None:
        """Take the broker's answer to CONNECT."""
        if self._answered.done():
            return
        if refusal is None and limits.acknowledges:
            self._limits = limits
            self._outgoing.window = limits.window
            self._answered.set_result(None)
        elif refusal is None:
            self._answered.set_exception(BusRejected("the broker acknowledges nothing", _QOS_NOT_SUPPORTED))
        elif refusal.code == _UNSUPPORTED_VERSION and self.protocol == "5":
            self._answered.set_exception(_OldBroker())
        else:
            message = f"the broker refuses the connection: {refusal.text}"
            self._answered.set_exception(BusRejected(message, refusal.code))

    def on_puback(self, number: int, refusal: Refusal | None) -> None:
        """Settle a publish."""
        if refusal is None:
            self._outgoing.acknowledged(number, None)
        else:
            error = BusDenied(f"the broker refuses the message: {refusal.text}", refusal.code)
            self._outgoing.acknowledged(number, error)

    def on_suback(self, number: int, refusals: Sequence[Refusal]) -> None:
        """Settle a subscription."""
        answer = self._subscribing.get(number)
        if answer is None or answer.done():
            return
        if refusals:
            message = f"the broker refuses a subscription: {refusals[0].text}"
            answer.set_exception(BusDenied(message, refusals[0].code))
        else:
            answer.set_result(None)

    def on_message(self, message: Message) -> None:
        """Hand a message on."""
        if self._heard is None or self.closed.done():
            return
        try:
            self._heard(message)
        except Exception as error:  # noqa: BLE001 — a listener's mistake must not cost the connection
            self._loop.call_exception_handler({"message": "a listener to the bus failed", "exception": error})

    def on_closed(self, reason: str) -> None:
        """Tell everybody who waits that the connection is gone."""
        if self.closed.done():
            return
        reason = "closed" if self._leaving else reason
        self.closed.set_result(reason)
        if not self._answered.done():
            self._answered.set_exception(_NoAnswer())
            self._answered.exception()  # marks it as seen: a cancelled `connect` doesn't look
        self._outgoing.lose(reason)
        for answer in self._subscribing.values():
            fail(answer, BusLost(reason))


async def _newest(attempt: Callable[[Protocol, float | None], Awaitable[_Connected]]) -> _Connected:
    """Return a link in MQTT 5, in 3.1.1 only where the broker doesn't speak 5. Raises what `attempt` raises.

    Silence is a weak sign of an old broker: one that is killed or just starting behind a proxy (a container's port,
    say) ends connections without an answer too. And it matters, since in 3.1.1 a publish that the ACL denies looks
    like a success. So a broker that answers 3.1.1 and didn't answer 5 is asked for 5 once more, now that it is there.
    """
    try:
        return await attempt("5", _VERSION_5_SECS)
    except _OldBroker:
        return await attempt("3.1.1", None)
    except _NoAnswer:
        link = await attempt("3.1.1", None)
    await link.disconnect()
    try:
        return await attempt("5", _VERSION_5_AGAIN_SECS)
    except (_NoAnswer, _OldBroker):
        return await attempt("3.1.1", None)
