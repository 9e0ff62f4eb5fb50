"""Automations made from the project's blueprints, and a count of what they did: each run is one message."""

from __future__ import annotations

import json
from typing import Any

from secretsd_bus import KeyRing

from tests.home_assistant.home import FOLDER, PATIENCE_SECS
from tests.support.tap import Tap
from tests.support.waiting import always, eventually

QUIET_SECS = 2.0
"""How long nothing more may happen."""

OFFLINE_SECS = 8
"""How long the daemon may be away before it is told: longer than a restart takes on a busy machine."""
LONGER_SECS = OFFLINE_SECS + 1.5

DEVICE = "secretsd_testnode"


def automation(blueprint: str, says: str = "event_id", **inputs: Any) -> dict[str, Any]:
    """Return an automation of one of the blueprints; it publishes what the variable `says` holds for each run."""
    publish = {
        "service": "mqtt.publish",
        "data": {"topic": f"ran/{blueprint}", "payload": f"{{{{ {says} }}}}", "qos": 1},
    }
    path = f"{FOLDER}/{blueprint}.yaml"
    return {
        "id": blueprint,
        "alias": blueprint,
        "use_blueprint": {"path": path, "input": {**inputs, "action": [publish]}},
    }


def of_events(blueprint: str, **inputs: Any) -> dict[str, Any]:
    """Return an automation that follows the event entity."""
    return automation(blueprint, events=f"event.{DEVICE}_events", **inputs)


OFFLINE = automation(
    "daemon_offline",
    "kind",
    connection=f"binary_sensor.{DEVICE}_connection",
    checkpoint=f"binary_sensor.{DEVICE}_checkpoint",
    patience={"seconds": OFFLINE_SECS},
)
FOLLOWING = [of_events("access_denied"), of_events("secret_expiring"), of_events("secret_rotated"), OFFLINE]
"""All but the digest, which asks for a time."""


class Runs(Tap):
    """Hears what the automations say."""

    def __init__(self, url: str, keys: KeyRing) -> None:
        super().__init__(url, "ran", keys, client_id="runs")

    def of(self, blueprint: str) -> list[str]:
        """Return what each run of a blueprint's automation said, in order."""
        return [heard.payload.decode() for heard in self.on(f"ran/{blueprint}")]

    def wait(self, blueprint: str, expected: list[str]) -> None:  # type: ignore[override]
        """Wait until the runs were these, in any order, and see that none comes after them."""

        def there() -> bool:
            said = self.of(blueprint)
            assert len(said) >= len(expected), f"{len(said)} of {len(expected)} runs"
            return True

        eventually(there, f"{blueprint} has run", within=PATIENCE_SECS)
        always(lambda: len(self.of(blueprint)) <= len(expected), f"{blueprint} runs again", during=QUIET_SECS)
        assert sorted(self.of(blueprint)) == sorted(expected), json.dumps(self.of(blueprint))
