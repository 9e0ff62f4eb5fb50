"""Topics, and which of them a message may come on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from secretsd_bus.events import SOURCE_PREFIX, Event

SECRET_VERBS: Final = (
    "created",
    "updated",
    "rotated",
    "rotation_started",
    "rotation_failed",
    "key_published",
    "expiring",
    "expired",
    "retired",
    "deleted",
)
"""The verbs of secret events that have a topic of the secret's own."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
"""A secret's name, and a node's."""

_PREFIX_MOST: Final = 1024


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics under one prefix. Raises ValueError for a prefix that can't be one."""

    prefix: str

    def __post_init__(self) -> None:
        if not self.prefix or any(not level for level in self.prefix.split("/")):
            raise ValueError("a topic prefix has no empty level and no slash at its ends")
        if any(character in "+#$" or not character.isprintable() for character in self.prefix):
            raise ValueError("a topic prefix holds no wildcard (+ or #), no $ and nothing that can't be printed")
        if len(self.prefix.encode()) > _PREFIX_MOST:
            raise ValueError(f"a topic prefix has at most {_PREFIX_MOST} bytes")

    def secret_event(self, name: str, verb: str) -> str:
        """Return the topic of one kind of event of one secret."""
        return f"{self.prefix}/secret/{name}/{verb}"

    def secret_state(self, name: str) -> str:
        """Return the topic of a secret's retained state."""
        return f"{self.prefix}/secret/{name}/state"

    def audit(self, category: str, verb: str) -> str:
        """Return the topic of one kind of audit event, such as `access` and `denied`."""
        return f"{self.prefix}/audit/{category}/{verb}"

    def checkpoint(self, node: str) -> str:
        """Return the topic of a daemon's retained checkpoint."""
        return f"{self.prefix}/checkpoint/{node}"

    def status(self, node: str) -> str:
        """Return the topic of a daemon's retained status."""
        return f"{self.prefix}/status/{node}"

    def keys(self, node: str) -> str:
        """Return the topic of a daemon's key set, which nobody trusts."""
        return f"{self.prefix}/keys/{node}"

    def of(self, event: Event) -> frozenset[str]:
        """Return the topics on which `event` counts, worked out from its own content; maybe none."""
        name = event.data.get("name")
        if not isinstance(name, str) or NAME.fullmatch(name) is None:
            name = None
        node = event.source.removeprefix(SOURCE_PREFIX)
        match event.type.split("."):
            case ["secret", "state"]:
                return frozenset({self.secret_state(name)} if name is not None else ())
            case ["audit", "checkpoint"]:
                return frozenset({self.checkpoint(node)})
            case ["daemon", "status"]:
                return frozenset({self.status(node)})
            case ["secret", verb] if verb in SECRET_VERBS:
                return frozenset(
                    {self.secret_event(name, verb), self.audit("secret", verb)} if name is not None else ()
                )
            case [category, verb]:
                return frozenset({self.audit(category, verb)})
        return frozenset()
