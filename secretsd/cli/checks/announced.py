"""What the broker holds of daemons under the prefix: our own checkpoint, and whether another daemon speaks there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from secretsd_bus import Event, KeyRing, Message, Refused, Topics, Verifier, parse_time

from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, combined, failure, ok, warning
from secretsd.cli.output import duration_text
from secretsd.model import Health

STALE_INTERVALS: Final = 3
"""As clients judge it: a checkpoint is fresh for three intervals (docs/client.md)."""
SLACK_MS: Final = 2000


def _announced(context: Context) -> Sequence[Message]:
    messages = context.announced
    if messages is None:
        raise Skip("the daemon's own user may not read what it writes under the prefix")
    return messages


def checkpoint(context: Context) -> Finding:
    """See that the daemon's checkpoint is on the broker, is really its own, and is fresh."""
    bus = context.config.bus
    topics = Topics(bus.topic_prefix)
    payload = next(
        (one.payload for one in _announced(context) if one.topic == topics.checkpoint(bus.node) and one.payload), None
    )
    health = context.health_or_trouble
    running = isinstance(health, Health) and health.bus == "connected"
    if payload is None:
        if not running:
            raise Skip("the broker has none, and no daemon is connected to it")
        return failure(
            f"the broker holds none at {topics.checkpoint(bus.node)}: no client can tell that the bus is alive",
            "let the daemon's user publish retained messages, and let the broker keep them (retain_available true)",
        )
    try:
        event = Verifier(topics, context.keyring).verify(topics.checkpoint(bus.node), payload)
    except Refused as refused:
        return failure(
            f"the one at {topics.checkpoint(bus.node)} is not this daemon's ({refused.slug})",
            "see `second-daemon` and `canary-anonymous`: somebody else writes there",
        )
    return judge_checkpoint(event, context.now_ms(), bus.checkpoint_secs, running=running)


def judge_checkpoint(event: Event, now_ms: int, interval_secs: int, *, running: bool) -> Finding:
    """Judge a verified checkpoint's age."""
    age_ms = now_ms - parse_time(event.time)
    age = duration_text(abs(age_ms) / 1000)
    if not running:
        raise Skip(f"no daemon is connected to the broker; its last one is {age} old")
    said = event.data.get("interval_secs")
    if age_ms > STALE_INTERVALS * interval_secs * 1000 + SLACK_MS:
        return failure(
            f"it is {age} old, and one is due every {interval_secs} s",
            "see `bus`, `broker-login` and `canary-anonymous`: the daemon's don't get there, or others overwrite them",
        )
    if age_ms < -SLACK_MS:
        return warning(f"it is from {age} ahead of this machine's clock", "see `clock`")
    if said != interval_secs:
        return warning(
            f"one comes every {said} s, the configuration says {interval_secs} s", "systemctl restart jarvis-secretsd"
        )
    return ok(f"verified, {age} old, generation {event.data.get('generation')}, line {event.data.get('sequence')}")


def second_daemon(context: Context) -> Finding:
    """See that no other daemon speaks under the prefix."""
    bus = context.config.bus
    return judge_others(_announced(context), Topics(bus.topic_prefix), bus.node, context.keyring)


def judge_others(messages: Sequence[Message], topics: Topics, node: str, keyring: KeyRing) -> Finding:
    """Judge whatever stands on the topics of statuses and checkpoints."""
    verifier = Verifier(topics, keyring)
    own = {topics.status(node), topics.checkpoint(node)}
    findings = []
    for message in messages:
        if not message.payload:
            continue
        try:
            verifier.verify(message.topic, message.payload)
        except Refused as refused:
            findings.append(_other(message, refused, ours=message.topic in own))
        else:
            if message.topic not in own:
                findings.append(_namesake(message))
    return combined(f"nobody else speaks as a daemon under {topics.prefix}", findings)


def _other(message: Message, refused: Refused, *, ours: bool) -> Finding:
    if ours:
        return failure(
            f"{message.topic} is not this daemon's ({refused.slug}): another one has its name, or somebody forges it",
            "give each daemon a topic_prefix of its own, and let only its user write there (mosquitto/acl)",
        )
    if _says_online(message):
        return failure(
            f"another daemon speaks on {message.topic}",
            "give it a topic_prefix of its own: one vault per prefix ([bus] topic_prefix)",
        )
    return warning(
        f"another daemon has spoken on {message.topic}", "give it a topic_prefix of its own", _forget(message.topic)
    )


def _namesake(message: Message) -> Finding:
    if _says_online(message):
        return failure(
            f"a daemon with this vault's own keys is online at {message.topic}: a copy of the vault is served",
            f"stop one of the two; {_forget(message.topic)}",
        )
    return warning(f"{message.topic} is this daemon's from when it had another name", _forget(message.topic))


def _says_online(message: Message) -> bool:
    """Tell whether a message that nobody can vouch for says `online`; every checkpoint counts as spoken long ago."""
    try:
        content = json.loads(message.payload)
    except (ValueError, RecursionError):
        return False
    data = content.get("data") if isinstance(content, dict) else None
    return isinstance(data, dict) and data.get("state") == "online"


def _forget(topic: str) -> str:
    return f"if it is gone for good: mosquitto_pub -r -n -t '{topic}'   # with the daemon's credentials"


CHECKS: Final = (
    Check("checkpoint", "Is the daemon's checkpoint on the broker, its own, and fresh?", checkpoint),
    Check("second-daemon", "Does no other daemon speak under the prefix?", second_daemon),
)
