"""A broker of yours is left as it was found: what the try-out's daemon retained there is taken away."""

import asyncio
import json
import os

from secretsd_bus import BusError, BusSettings, Link, Topics

from demo.child import PATIENCE_SECS
from demo.place import NODE, Place
from demo.telling import Teller


async def take_away(teller: Teller, place: Place, bus: BusSettings) -> None:
    """Empty the retained topics of a daemon that has ended, or say what stays."""
    topics = Topics(bus.topic_prefix)
    ours = [topics.checkpoint(NODE), topics.status(NODE), topics.keys(NODE)]
    ours += map(topics.secret_state, _names(place))
    try:
        async with asyncio.timeout(PATIENCE_SECS):
            link = await Link.connect(bus, client_id=f"tryout-leaving-{os.getpid()}")
            try:
                await asyncio.gather(*(link.publish(topic, b"", retain=True) for topic in ours))
            finally:
                await link.disconnect()
    except (BusError, TimeoutError) as error:
        why = str(error) or "it acknowledges nothing"
        teller.error(f"retained messages stay on your broker, under {bus.topic_prefix}/: {why}")


def _names(place: Place) -> set[str]:
    """Return the names of the secrets that are in the vault or were."""
    if not place.vault.exists():
        return set()
    document = json.loads(place.vault.read_bytes())
    return {*document["secrets"], *document.get("tombstones", {})}
