"""paho on the running event loop: bytes to and from the broker. The only module that imports paho.

No thread of paho's: the loop watches its socket, so an acknowledgement or a message arrives without a change of
threads. paho keeps nothing back either: no queue, no limit of its own, no reconnecting.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple
from typing import Protocol as Interface

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

Protocol = Literal["5", "3.1.1"]

REFUSED: Final = 0x80
"""Reason codes from here on are refusals."""

WINDOW_MOST: Final = 64

PACKET_MOST: Final = 1024 * 1024
"""Bytes of a packet that is taken: ours have a few thousand. A broker that speaks 5 is told and sends none larger."""

_TICK_SECS: Final = 1.0
_READS_IN_A_ROW: Final = 64


@dataclass(frozen=True, slots=True)
class Message:
    """What came on a topic. `retain` tells a kept message from a live one, `duplicate` a redelivery."""

    topic: str
    payload: bytes
    retain: bool
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this connection ends without a word."""

    topic: str
    payload: bytes


class Refusal(NamedTuple):
    """A reason code of 0x80 or more, and its words."""

    code: int
    text: str


class Limits(NamedTuple):
    """What the broker's CONNACK allows."""

    window: int = WINDOW_MOST
    packet_bytes: int | None = None
    retains: bool = True
    acknowledges: bool = True


class Owner(Interface):
    """Who is told what the wire brings, on the event loop."""

    def on_connack(self, refusal: Refusal | None, limits: Limits) -> None: ...
    def on_puback(self, number: int, refusal: Refusal | None) -> None: ...
    def on_suback(self, number: int, refusals: Sequence[Refusal]) -> None: ...
    def on_message(self, message: Message) -> None: ...
    def on_closed(self, reason: str) -> None: ...


class _ContentType(Properties):
    """The one property of our messages, packed once: packing it anew took a third of a publish's time."""

    def __init__(self, packet_type: int, content_type: str) -> None:
        super().__init__(packet_type)  # type: ignore[no-untyped-call]  # paho's class has no types
        self.ContentType = content_type
        packed = super().pack()  # type: ignore[no-untyped-call]  # the same
        object.__setattr__(self, "pack", lambda: packed)


class _Excess(Exception):
    """The broker sends more than is taken from anybody."""


class _Client(Client):
    """paho reads packets of 256 MB, and keeps messages of QoS 2 until they are released: both would fill memory."""

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > PACKET_MOST:
            raise _Excess("the broker sent a packet that is larger than we take")
        return super()._sock_recv(bufsize)

    def _send_pubrec(self, mid: int) -> MQTTErrorCode:  # noqa: ARG002 — paho's signature
        raise _Excess("the broker sent at QoS 2, which nobody asked for")


class Wire:
    """One connection of paho's. Blocking calls are only in `prepare` and in the thread that dials."""

    def __init__(self, client: Client, protocol: Protocol, owner: Owner) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._version5 = protocol == "5"
        self._owner = owner
        self._timer: asyncio.TimerHandle | None = None
        self._tick_secs = _TICK_SECS
        self._watching_writes = False
        self._properties: dict[str, _ContentType] = {}
        self.socket: socket.socket | None = None
        """The connection's socket while there is one."""

    @staticmethod
    def prepare(
        protocol: Protocol,
        client_id: str,
        *,
        tls: ssl.SSLContext | None,
        credentials: tuple[str, str | None] | None,
        will: Will | None,
        content_type: str,
        connect_secs: float,
    ) -> Client:
        """Return a client of paho's that queues and reconnects nothing by itself."""
        version5 = protocol == "5"
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if version5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if version5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = connect_secs
        client.max_inflight_messages_set(0)  # no limit and no queue of paho's: the window is ours
        if tls is not None:
            client.tls_set_context(tls)
        if credentials is not None:
            client.username_pw_set(*credentials)
        if will is not None:
            properties = _ContentType(PacketTypes.WILLMESSAGE, content_type) if version5 else None
            client.will_set(will.topic, will.payload, qos=1, retain=True, properties=properties)
        return client

    async def dial(self, host: str, port: int, keepalive_secs: int) -> bool:
        """Connect and send CONNECT; tell whether the connection still stood then. Raises OSError."""
        # paho connects in a blocking way, so a thread does it; no callback is set yet that would run there.
        dialling = self._loop.run_in_executor(None, self._connect, host, port, keepalive_secs)
        try:
            await asyncio.shield(dialling)
        except asyncio.CancelledError:
            dialling.add_done_callback(self._hang_up)  # a thread can't be stopped: close what it may still open
            raise
        connection = self._client.socket()
        if not isinstance(connection, socket.socket):
            return False
        self._watch(connection, keepalive_secs)
        return True

    def publish(self, topic: str, payload: bytes, *, retain: bool, content_type: str) -> int | None:
        """Write a PUBLISH at the end of this turn of the loop; return its number, None without a connection."""
        properties: _ContentType | None = None
        if self._version5:
            properties = self._properties.get(content_type)
            if properties is None:
                properties = _ContentType(PacketTypes.PUBLISH, content_type)
                self._properties[content_type] = properties
        info = self._client.publish(topic, payload, 1, retain, properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def subscribe(self, filters: Sequence[str]) -> int | None:
        """Write a SUBSCRIBE at QoS 1; return its number, None without a connection. Raises ValueError."""
        code, number = self._client.subscribe([(topic, 1) for topic in filters])
        return number if code == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def disconnect(self) -> None:
        """Write a DISCONNECT behind all that was published; paho closes the socket then."""
        self._client.disconnect()

    def drop(self) -> None:
        """Close the socket without a word."""
        connection = self.socket
        self._unwatch()
        if connection is not None:
            connection.close()

    # The socket

    def _connect(self, host: str, port: int, keepalive_secs: int) -> MQTTErrorCode:
        properties: Properties | None = None
        if self._version5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's class has no types
            properties.MaximumPacketSize = PACKET_MOST
        return self._client.connect(host, port, keepalive_secs, properties=properties)

    def _hang_up(self, dialling: asyncio.Future[MQTTErrorCode]) -> None:
        if dialling.cancelled() or dialling.exception() is not None:
            return
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _watch(self, connection: socket.socket, keepalive_secs: int) -> None:
        # Small packets go at once: an acknowledgement that Nagle's algorithm holds back costs more than it saves.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self._tick_secs = min(_TICK_SECS, keepalive_secs / 4)
        client = self._client
        client.on_connect = self._on_connack
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_puback
        client.on_subscribe = self._on_suback
        client.on_message = self._on_publish
        client.on_socket_close = lambda *_: self._unwatch()
        client.on_socket_register_write = self._write_soon
        client.on_socket_unregister_write = lambda *_: self._unwatch_writes()
        self._loop.add_reader(connection.fileno(), self._read)
        self._loop.call_soon(self._write)  # what the socket didn't take of CONNECT
        self._timer = self._loop.call_later(self._tick_secs, self._tick)

    def _read(self) -> None:
        for _ in range(_READS_IN_A_ROW):
            connection = self.socket
            if connection is None:
                return
            self._guarded(self._client.loop_read)
            # The loop sees the socket only: what TLS has decrypted already must be asked for.
            if not isinstance(connection, ssl.SSLSocket) or self.socket is None or not connection.pending():
                return
        self._loop.call_soon(self._read)

    def _write_soon(self, *_: object) -> None:
        """Have all that is published in this turn of the loop written together at its end."""
        self._loop.call_soon(self._write)

    def _write(self) -> None:
        if self.socket is None:
            return
        self._guarded(self._client.loop_write)
        if self.socket is not None and self._client.want_write() and not self._watching_writes:
            self._watching_writes = True
            self._loop.add_writer(self.socket.fileno(), self._write)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._tick_secs, self._tick)
        self._guarded(self._client.loop_misc)

    def _guarded(self, step: Callable[[], MQTTErrorCode]) -> None:
        try:
            step()
        except _Excess as error:
            self.drop()
            self._owner.on_closed(str(error))
        except Exception as error:  # noqa: BLE001 — a hostile broker's packet may break paho anywhere
            self.drop()
            self._owner.on_closed(f"the broker sent what can't be read ({type(error).__name__})")

    def _unwatch_writes(self) -> None:
        if self._watching_writes and self.socket is not None:
            self._loop.remove_writer(self.socket.fileno())
        self._watching_writes = False

    def _unwatch(self) -> None:
        """Take the socket off the loop; from then on nothing of paho's runs."""
        if self._timer is not None:
            self._timer.cancel()
        if self.socket is not None:
            self._unwatch_writes()
            self._loop.remove_reader(self.socket.fileno())
            self.socket = None

    # What paho says, in our words

    def _on_connack(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, granted: Properties | None
    ) -> None:
        limits = Limits(
            window=min(WINDOW_MOST, getattr(granted, "ReceiveMaximum", WINDOW_MOST)),
            packet_bytes=getattr(granted, "MaximumPacketSize", None),
            retains=getattr(granted, "RetainAvailable", 1) != 0,
            acknowledges=getattr(granted, "MaximumQoS", 1) != 0,
        )
        self._owner.on_connack(_refusal(reason), limits)

    def _on_disconnect(
        self, _client: Client, _data: Any, flags: DisconnectFlags, reason: ReasonCode, _more: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._owner.on_closed(f"the broker closed the connection: {_said(reason)}")
        elif reason == "Keep alive timeout":
            self._owner.on_closed("the broker stopped answering")
        else:
            self._owner.on_closed("the connection was lost")

    def _on_puback(
        self, _client: Client, _data: Any, number: int, reason: ReasonCode, _more: Properties | None
    ) -> None:
        self._owner.on_puback(number, _refusal(reason))

    def _on_suback(
        self, _client: Client, _data: Any, number: int, reasons: list[ReasonCode], _more: Properties | None
    ) -> None:
        refusals = [refusal for reason in reasons if (refusal := _refusal(reason)) is not None]
        self._owner.on_suback(number, refusals)

    def _on_publish(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # nobody's topic
        self._owner.on_message(Message(topic, bytes(message.payload), bool(message.retain), bool(message.dup)))


def _said(reason: ReasonCode) -> str:
    return f"{reason.getName()} (0x{reason.value:02x})"


def _refusal(reason: ReasonCode) -> Refusal | None:
    return Refusal(reason.value, _said(reason)) if reason.value >= REFUSED else None
