"""How the broker carries events: what it keeps for a slow subscriber, and how long an event takes."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from secretsd_bus import BusDenied, BusLost, BusSettings

from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, ok, warning
from secretsd.cli.checks.listening import HEAR_SECS, PAYLOAD, Ear, canary_topic, connected

BURST: Final = 1200
"""More than Mosquitto keeps by default (1,000, and 20 that are on their way), and little enough to disturb nobody."""
BURST_SECS: Final = 15.0
"""Less than the broker waits for a sign of life from the subscriber that stands still."""
QUIET_SECS: Final = 1.0

ROUNDS: Final = 20
SLOW_MS: Final = 250.0


def queue(context: Context) -> Finding:
    """See how much waits for a subscriber that isn't reading. Only that subscriber's own queue is filled."""
    return judge_queue(burst(context.broker))


def burst(settings: BusSettings) -> int:
    """Return how many of BURST messages reach a subscriber that stood still while they were published.

    It stands still because its event loop does. Raises BusError, Skip when not all could be published.
    """
    topic = canary_topic(settings.topic_prefix, "queue")
    with asyncio.Runner() as slow, asyncio.Runner() as quick:
        ear = slow.run(Ear.connect(settings))
        try:
            slow.run(ear.listen([topic]))
            quick.run(_publish(settings, topic))
            return slow.run(_take_all(ear))
        finally:
            slow.run(ear.link.disconnect())


async def _publish(settings: BusSettings, topic: str) -> None:
    async with connected(settings) as ours:
        try:
            async with asyncio.timeout(BURST_SECS):
                await asyncio.gather(*(ours.link.publish(topic, PAYLOAD) for _ in range(BURST)))
        except (TimeoutError, BusDenied, BusLost):
            raise Skip(f"{BURST:,} messages could not be published within {BURST_SECS:.0f} s") from None


async def _take_all(ear: Ear) -> int:
    before = -1
    while before < len(ear.heard) < BURST:
        before = len(ear.heard)
        await ear.hears_count(BURST, QUIET_SECS)
    return len(ear.heard)


def judge_queue(arrived: int) -> Finding:
    """Judge how many of the burst arrived."""
    if arrived >= BURST:
        return ok(f"{BURST:,} messages waited for a subscriber that stood still, none was lost")
    if arrived == 0:
        raise Skip("the daemon's own user may not read what it writes under the prefix")
    return warning(
        f"of {BURST:,} messages for a subscriber that stood still {BURST - arrived:,} were lost without a word; what "
        "it misses it learns from the next checkpoint only",
        "in mosquitto.conf: max_queued_messages 1000000 and max_queued_bytes 0 (docs/broker.md, The limits)",
        "systemctl restart mosquitto",
    )


def latency(context: Context) -> Finding:
    """Measure how long it takes from publishing to a subscriber."""
    times = asyncio.run(round_trips(context.broker))
    if not times:
        raise Skip("the daemon's own user may not read what it writes under the prefix")
    return judge_latency(times)


async def round_trips(settings: BusSettings) -> list[float]:
    """Return milliseconds from publishing to another connection's hearing, one message after the other."""
    topic = canary_topic(settings.topic_prefix)
    times: list[float] = []
    async with connected(settings) as theirs, connected(settings) as ours:
        await theirs.listen([topic])
        for number in range(1 + ROUNDS):
            started = time.perf_counter()
            said = asyncio.ensure_future(ours.say(topic))
            heard = await theirs.hears_count(number + 1, HEAR_SECS)
            times.append((time.perf_counter() - started) * 1000)
            await said
            if not heard:
                return []
    return times[1:]  # the first shares its way with the answer to the subscription


def judge_latency(times: list[float]) -> Finding:
    """Judge the times of single messages, in milliseconds."""
    middle, worst = sorted(times)[len(times) // 2], max(times)
    said = f"an event takes {middle:.1f} ms to a subscriber, {worst:.1f} ms at worst of {len(times)}"
    if middle > SLOW_MS:
        return warning(said, "is the broker, or the network to it, loaded? A broker on this machine takes about 1 ms")
    return ok(said)


CHECKS: Final = (
    Check("queue", "Does the broker keep enough for a slow subscriber?", queue),
    Check("latency", "How long does an event take to a subscriber?", latency),
)
