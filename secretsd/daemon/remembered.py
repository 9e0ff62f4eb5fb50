"""What the broker remembers of this daemon, asked while the daemon is stopped. Blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from secretsd_bus import BusError, Event, Link, Message, Topics

from secretsd.audit.eventkeys import EventKeys
from secretsd.config import Config
from secretsd.outbox.witness import Witness
from secretsd.vault.keys import new_id

BROKER_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """`checkpoint` is the daemon's own retained one, empty where there is none. `asked`: the broker could be asked."""

    asked: bool
    checkpoint: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> tuple[str, ...]:
        """The epoch that the broker tells of, if any."""
        return (str(self.checkpoint["epoch"]),) if "epoch" in self.checkpoint else ()


def ask_broker(config: Config, keys: EventKeys, log_id: str) -> Remembered:
    """Return the checkpoint of the log `log_id` that the broker retains; only one that `keys` signed counts."""
    if not config.bus.enabled:
        return Remembered(asked=True)
    return asyncio.run(_asked(config, keys, log_id))


async def _asked(config: Config, keys: EventKeys, log_id: str) -> Remembered:
    topics = Topics(config.bus.topic_prefix)
    witness = Witness(topics, keys, log_id)
    arrived: asyncio.Queue[Message] = asyncio.Queue()
    try:
        async with asyncio.timeout(BROKER_SECONDS):
            link = await Link.connect(
                config.bus.settings(), client_id=f"secretsctl-{new_id()[:8]}", on_message=arrived.put_nowait
            )
            await link.subscribe([topics.checkpoint(config.bus.node)])
    except (BusError, TimeoutError, ValueError, OSError):
        return Remembered(asked=False)
    try:
        async with asyncio.timeout(BROKER_SECONDS):
            while True:
                message = await arrived.get()
                event: Event | None = witness.own(message.topic, message.payload)
                if event is not None:
                    return Remembered(asked=True, checkpoint=event.data)
    except TimeoutError:
        return Remembered(asked=True)
    finally:
        await link.disconnect()
