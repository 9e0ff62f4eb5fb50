"""Discovery: which entities there are, and what Home Assistant is told of each (docs/home-assistant.md). Pure.

One retained message an entity, on `<discovery prefix>/<component>/<device>/<object>/config`: every version of Home
Assistant takes these. Keys are Home Assistant's abbreviations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from secretsd_bus import PREFIX, Topics

from secretsd.config import Bus, HomeAssistant
from secretsd.outbox.homeassistant.ids import device_id, slug, topic_id

EVENT_KINDS: Final = {
    "access.denied": "denied",
    "access.failed": "failed",
    "secret.rotated": "rotated",
    "secret.rotation_failed": "rotation_failed",
    "secret.expiring": "expiring",
    "secret.expired": "expired",
    "secret.deleted": "deleted",
    "policy.reloaded": "policy",
    "policy.rejected": "policy",
}
"""The types of the log that become events in Home Assistant, and what they are called there."""

SILENCE_LEAST_SECONDS: Final = 30
SILENT_INTERVALS: Final = 3
"""After so many intervals without a checkpoint it is overdue."""

_FIXED: Final = {
    "connection": "binary_sensor",
    "checkpoint": "binary_sensor",
    "problem": "binary_sensor",
    "next_expiry": "sensor",
    "secrets": "sensor",
    "denials": "sensor",
    "rotations": "sensor",
    "events": "event",
}
_OF_A_SECRET: Final = ("expiry", "status")

# An event that was published again, since its acknowledgement was lost, must not count twice. The entity remembers the
# id of its last one (`this`), over restarts too; within a log, ids end with numbers that only go up.
_EVENT_TEMPLATE: Final = (
    "{%% set kinds = %s %%}"
    "{%% set kind = kinds[value_json.type] | default('') %%}"
    "{%% set id = value_json.id.rsplit('-', 1) %%}"
    "{%% set last = (this.attributes.id | default('-0', true)).rsplit('-', 1) %%}"
    "{%% if kind and (id[0] != last[0] or id[1] | int > last[1] | int) %%}"
    "{{ dict(value_json.data, event_type=kind, id=value_json.id, time=value_json.time) | to_json }}"
    "{%% else %%}{}{%% endif %%}"
)


@dataclass(frozen=True, slots=True)
class Discovery:
    """The entities of one daemon."""

    bus: Bus
    settings: HomeAssistant
    version: str

    @property
    def device(self) -> str:
        """The device's id, which topics and unique ids begin with."""
        return device_id(self.bus.topic_prefix, self.bus.node)

    @property
    def overview_topic(self) -> str:
        """Where the overview stands, retained."""
        return f"{self.settings.discovery_prefix}/secretsd/{self.device}/overview"

    @property
    def event_topic(self) -> str:
        """Where the events for the event entity are published."""
        return f"{self.settings.discovery_prefix}/secretsd/{self.device}/event"

    def fixed(self) -> Iterator[tuple[str, bytes]]:
        """Yield topic and payload of the device's own entities."""
        for name, component in _FIXED.items():
            yield self._topic(component, name), self._encoded(component, name, getattr(self, f"_{name}")())

    def of_secret(self, name: str) -> Iterator[tuple[str, bytes]]:
        """Yield topic and payload of a secret's entities."""
        for what in _OF_A_SECRET:
            config, entity = getattr(self, f"_secret_{what}")(name), f"{slug(name)}_{what}"
            yield self._secret_topic(name, what), self._encoded("sensor", f"{what}_{topic_id(name)}", config, entity)

    def fixed_topics(self) -> list[str]:
        """Return the topics of the device's own entities."""
        return [self._topic(component, name) for name, component in _FIXED.items()]

    def secret_topics(self, name: str) -> list[str]:
        """Return the topics of a secret's entities."""
        return [self._secret_topic(name, what) for what in _OF_A_SECRET]

    # The device's own entities

    def _connection(self) -> dict[str, Any]:
        return {
            "name": "Connection",
            "dev_cla": "connectivity",
            "ent_cat": "diagnostic",
            **self._status("stat_t", "val_tpl"),
            "pl_on": "online",
            "pl_off": "offline",
            "json_attr_t": Topics(self.bus.topic_prefix).status(self.bus.node),
            # When the connection began: what happened since is of this session.
            "json_attr_tpl": "{{ {'session': value_json.data.session, 'since': value_json.time} | to_json }}",
        }

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "name": "Checkpoint",
            "dev_cla": "connectivity",
            "ent_cat": "diagnostic",
            "stat_t": Topics(self.bus.topic_prefix).checkpoint(self.bus.node),
            "val_tpl": "ON",
            "exp_aft": max(SILENCE_LEAST_SECONDS, SILENT_INTERVALS * self.bus.checkpoint_secs),
        }

    def _problem(self) -> dict[str, Any]:
        return {
            "name": "Problem",
            "dev_cla": "problem",
            **self._of_overview("'ON' if value_json.problem else 'OFF'"),
            **self._attributes("problems", "expired", "expired_names"),
        }

    def _next_expiry(self) -> dict[str, Any]:
        return {
            "name": "Next expiry",
            "dev_cla": "timestamp",
            **self._of_overview("value_json.next_expiry"),
            **self._attributes("next_expiry_name"),
        }

    def _secrets(self) -> dict[str, Any]:
        return {
            "name": "Secrets",
            "unit_of_meas": "secrets",
            "stat_cla": "measurement",
            "ic": "mdi:key-chain",
            **self._of_overview("value_json.secrets"),
            "json_attr_t": self.overview_topic,
        }

    def _denials(self) -> dict[str, Any]:
        return {
            "name": "Denials",
            "unit_of_meas": "denials",
            "stat_cla": "total_increasing",
            "ic": "mdi:cancel",
            **self._of_overview("value_json.denials"),
            **self._attributes("denials_24h"),
        }

    def _rotations(self) -> dict[str, Any]:
        return {
            "name": "Rotations",
            "unit_of_meas": "rotations",
            "stat_cla": "total_increasing",
            "ic": "mdi:autorenew",
            **self._of_overview("value_json.rotations"),
            **self._attributes("rotations_24h"),
        }

    def _events(self) -> dict[str, Any]:
        kinds = {PREFIX + type_: kind for type_, kind in EVENT_KINDS.items()}
        # No availability here: coming back from it would look like an event.
        return {
            "name": "Events",
            "ic": "mdi:shield-key",
            "stat_t": self.event_topic,
            "evt_typ": [*dict.fromkeys(EVENT_KINDS.values())],
            "val_tpl": _EVENT_TEMPLATE % kinds,
        }

    # A secret's entities. They have no availability: with a thousand of them every restart would be a flood, and an
    # expiry stays true while the daemon is away.

    def _secret_expiry(self, name: str) -> dict[str, Any]:
        return {
            "name": f"{name} expiry",
            "dev_cla": "timestamp",
            "stat_t": Topics(self.bus.topic_prefix).secret_state(name),
            # The year 9999 stands for never, which Home Assistant knows as unknown.
            "val_tpl": "{{ None if value_json.data.expires_at[:4] == '9999' else value_json.data.expires_at }}",
        }

    def _secret_status(self, name: str) -> dict[str, Any]:
        return {
            "name": f"{name} status",
            "dev_cla": "enum",
            "ops": ["active", "expiring", "expired", "deleted"],
            "stat_t": Topics(self.bus.topic_prefix).secret_state(name),
            "val_tpl": "{{ value_json.data.status }}",
        }

    # What they share

    def _of_overview(self, expression: str) -> dict[str, Any]:
        return {
            "stat_t": self.overview_topic,
            "val_tpl": f"{{{{ {expression} }}}}",
            **self._status("avty_t", "avty_tpl"),
        }

    def _attributes(self, *names: str) -> dict[str, Any]:
        members = ", ".join(f"'{name}': value_json.{name}" for name in names)
        return {"json_attr_t": self.overview_topic, "json_attr_tpl": f"{{{{ {{{members}}} | to_json }}}}"}

    def _status(self, topic: str, template: str) -> dict[str, Any]:
        return {topic: Topics(self.bus.topic_prefix).status(self.bus.node), template: "{{ value_json.data.state }}"}

    def _topic(self, component: str, name: str) -> str:
        return f"{self.settings.discovery_prefix}/{component}/{self.device}/{name}/config"

    def _secret_topic(self, name: str, what: str) -> str:
        return self._topic("sensor", f"{what}_{topic_id(name)}")

    def _encoded(self, component: str, name: str, config: dict[str, Any], entity: str | None = None) -> bytes:
        suggested = f"secretsd_{slug(self.bus.node)}_{entity or name}"
        return msgspec.json.encode(
            {
                **config,
                "uniq_id": f"{self.device}_{name}",
                # The older and the newer way to suggest an entity id.
                "obj_id": suggested,
                "def_ent_id": f"{component}.{suggested}",
                "dev": {
                    "ids": [self.device],
                    "name": f"secretsd {self.bus.node}",
                    "mf": "jarvis-secretsd",
                    "mdl": "secrets daemon",
                    "sw": self.version,
                },
                "o": {"name": "jarvis-secretsd", "sw": self.version},
            },
            order="sorted",
        )
