"""Mosquitto's ACL, worked out from the policy: who may read a secret may read its topics, only the daemon writes.

MQTT has no globs inside a level. So what a client may read by a glob becomes a line for each secret that exists and
that it matches; `*` alone, with nothing denied but whole names, becomes one line with a `deny` for each of these, which
Mosquitto looks at first. What can't be said exactly is left out: a client without a line follows the checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from secretsd_bus import Topics

from secretsd.config import Config
from secretsd.policy import ClientRule, Policy
from secretsd.policy.names import is_glob

_HOMEASSISTANT: Final = "Home Assistant"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the broker: what it is there for, and its rights as Mosquitto writes them, `read TOPIC` and so on."""

    name: str
    purpose: str
    rights: tuple[str, ...]


def users(
    config: Config, policy: Policy, names: Collection[str], *, daemon: str, homeassistant: str | None
) -> list[User]:
    """Return the daemon's user, the clients' and, where it has one, Home Assistant's. `names` are the vault's secrets.

    A client that is Home Assistant's user as well has the rights of both.
    """
    topics = Topics(config.bus.topic_prefix)
    found = [User(daemon, "the daemon, the only one who writes", _of_daemon(config, topics))]
    for name, rule in policy.clients.items():
        rights = _of_client(name, rule, policy, names, topics)
        found.append(User(name, "a client of the policy", rights))
    if homeassistant is not None:
        rights = _of_homeassistant(config, topics)
        same = next((one for one in found if one.name == homeassistant), None)
        if same is not None:
            found.remove(same)
            rights = (*same.rights, *(right for right in rights if right not in same.rights))
        found.append(User(homeassistant, _HOMEASSISTANT, rights))
    return found


def block(everyone: Iterable[User]) -> str:
    """Return the lines of the ACL file."""
    return "\n".join(
        "\n".join([f"# {one.purpose}", f"user {one.name}", *(f"topic {right}" for right in one.rights), ""])
        for one in everyone
    )


def homeassistant_in(block: str) -> str | None:
    """Return which user a block of ours has for Home Assistant, None where there is none."""
    found = re.search(rf"(?m)^# {_HOMEASSISTANT}\nuser (.+)$", block)
    return None if found is None else found[1]


def _of_daemon(config: Config, topics: Topics) -> tuple[str, ...]:
    """Let the daemon read too: its own checkpoint is a witness, and it notices a second daemon."""
    rights = [f"readwrite {topics.prefix}/#"]
    if config.homeassistant.discovery:
        discovery = config.homeassistant.discovery_prefix
        rights += [f"write {discovery}/#", f"read {discovery}/status"]
    return tuple(rights)


def _of_client(name: str, rule: ClientRule, policy: Policy, names: Collection[str], topics: Topics) -> tuple[str, ...]:
    rights = [f"read {topic}" for topic in _for_everybody(topics)]
    if "audit" in rule.can:
        rights.append(f"read {topics.prefix}/audit/#")
    if "read" not in rule.can:
        return tuple(rights)
    if "*" in rule.allow.patterns and not any(map(is_glob, rule.deny.patterns)):
        rights += [f"deny {topics.prefix}/secret/{one}/#" for one in rule.deny.patterns]
        return (*rights, f"read {topics.prefix}/secret/+/+")
    written = (one for one in rule.allow.patterns if not is_glob(one))
    known = sorted({*names, *written})
    return (*rights, *(f"read {topics.prefix}/secret/{one}/+" for one in known if policy.may(name, "read", one)))


def _for_everybody(topics: Topics) -> tuple[str, ...]:
    """Return what tells that the daemon lives, how far it is and which keys it signs with, and no secret's name."""
    return topics.checkpoint("+"), topics.status("+"), topics.keys("+"), topics.audit("audit", "key_rotated")


def _of_homeassistant(config: Config, topics: Topics) -> tuple[str, ...]:
    discovery, prefix = config.homeassistant.discovery_prefix, topics.prefix
    return (
        f"read {discovery}/#",
        f"write {discovery}/status",
        *(f"read {topic}" for topic in _for_everybody(topics)),
        f"read {prefix}/secret/+/+",
        f"read {prefix}/audit/access/+",
    )
