"""`python -m demo.amqtt_broker PORT`: a broker in pure Python, on loopback, for where no Mosquitto is installed.

amqtt speaks MQTT 3.1.1 alone. It refuses version 5 only after reading on as if that were 3.1.1, and so waits for
ever for bytes that don't come. Here it skips what it can't read and answers at once; clients then come again
with 3.1.1.
"""

import asyncio
import logging
import signal
import sys
from importlib import import_module
from typing import Any

VERSION_3_1_1 = 4
VARIABLE_HEADER_BYTES = 10  # protocol's name and level, flags, keep-alive


def refuse_version_5() -> None:
    """Teach amqtt's reader of CONNECT to skip the payload of a version that isn't its own."""
    connect = import_module("amqtt.mqtt.connect")
    payload_class: Any = connect.ConnectPayload
    as_before = payload_class.from_stream

    async def from_stream(reader: Any, fixed: Any, variable: Any) -> Any:
        if variable.proto_level == VERSION_3_1_1:
            return await as_before(reader, fixed, variable)
        await reader.read(fixed.remaining_length - VARIABLE_HEADER_BYTES)
        # Filled so far that amqtt's next check is the one of the version, which it answers with a refusal.
        payload = payload_class()
        payload.client_id, payload.will_topic, payload.will_message = "refused", "", b""
        return payload

    payload_class.from_stream = from_stream


async def serve(port: int) -> None:
    """Serve until SIGTERM."""
    refuse_version_5()
    broker = import_module("amqtt.broker").Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await broker.start()
    await stop.wait()
    await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(int(sys.argv[1])))
