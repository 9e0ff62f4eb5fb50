"""What stands in Home Assistant: the device's entities and the secrets', with state, unit and device class."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.home_assistant.home import PATIENCE_SECS, Home
from tests.home_assistant.runs import DEVICE
from tests.support.daemon import Daemon
from tests.support.waiting import eventually


def value(home: Home, entity: str) -> str | None:
    state = home.state(entity)
    return None if state is None else str(state["state"])


@pytest.fixture
def secret(daemon: Daemon) -> Iterator[str]:
    daemon.api.create("postgres_password", "v")
    yield "postgres_password"
    daemon.api.delete("/secret/postgres_password").ok(204)


def test_the_daemon_is_one_device_with_its_entities(home: Home, daemon: Daemon) -> None:
    ours = {state["entity_id"]: state["attributes"] for state in home.states().values() if DEVICE in state["entity_id"]}
    expected = {
        "binary_sensor.connection": {"device_class": "connectivity"},
        "binary_sensor.checkpoint": {"device_class": "connectivity"},
        "binary_sensor.problem": {"device_class": "problem"},
        "sensor.next_expiry": {"device_class": "timestamp"},
        "sensor.secrets": {"unit_of_measurement": "secrets", "state_class": "measurement"},
        "sensor.denials": {"unit_of_measurement": "denials", "state_class": "total_increasing"},
        "sensor.rotations": {"unit_of_measurement": "rotations", "state_class": "total_increasing"},
        "event.events": {
            "event_types": ["denied", "failed", "rotated", "rotation_failed", "expiring", "expired", "deleted",
                            "policy"],
        },
    }  # fmt: skip
    for entity, attributes in expected.items():
        found = ours[entity.replace(".", f".{DEVICE}_")]
        assert {name: found.get(name) for name in attributes} == attributes

    def devices() -> list[str]:
        return [device["name"] for device in home.stored("core.device_registry")["devices"]]

    eventually(lambda: devices() == ["secretsd testnode"], "one device", within=PATIENCE_SECS)


def test_a_secret_shows_when_it_expires_and_how_it_stands(home: Home, daemon: Daemon, secret: str) -> None:
    expires_at = daemon.api.get(f"/secret/{secret}").json()["expires_at"]
    shown = expires_at.partition(".")[0] + "+00:00"
    home.wait_state(f"sensor.{DEVICE}_{secret}_expiry", shown, device_class="timestamp")
    home.wait_state(f"sensor.{DEVICE}_{secret}_status", "active", device_class="enum")


def test_a_secret_that_never_expires_has_no_expiry(home: Home, daemon: Daemon) -> None:
    daemon.api.create("database_url", "v")
    home.wait_state(f"sensor.{DEVICE}_database_url_status", "active")
    home.wait_state(f"sensor.{DEVICE}_database_url_expiry", "unknown")


def test_the_next_expiry_is_that_of_the_secret_that_runs_out_first(home: Home, daemon: Daemon) -> None:
    daemon.api.create("soon", "v", rotation_period="20d")
    expires_at = daemon.api.get("/secret/soon").json()["expires_at"]
    shown = expires_at.partition(".")[0] + "+00:00"
    home.wait_state(f"sensor.{DEVICE}_next_expiry", shown, next_expiry_name="soon")


def test_an_expired_secret_is_a_problem_until_it_is_replaced(home: Home, daemon: Daemon) -> None:
    daemon.api.create("brief_problem")
    home.wait_state(f"binary_sensor.{DEVICE}_problem", "on", expired_names=["brief_problem"])
    home.wait_state(f"sensor.{DEVICE}_brief_problem_status", "expired")
    daemon.api.delete("/secret/brief_problem").ok(204)
    home.wait_state(f"binary_sensor.{DEVICE}_problem", "off", problems=[])


def test_the_entities_of_a_deleted_secret_go_away(home: Home, daemon: Daemon) -> None:
    daemon.api.create("short_lived", "v")
    entities = [f"sensor.{DEVICE}_short_lived_{what}" for what in ("expiry", "status")]
    home.wait_state(entities[1], "active")
    daemon.api.delete("/secret/short_lived").ok(204)
    for entity in entities:
        eventually(lambda e=entity: home.state(e) is None, f"{entity} is gone", within=PATIENCE_SECS)  # type: ignore[misc]


def test_names_that_look_alike_are_different_secrets(home: Home, daemon: Daemon) -> None:
    names = ("look.alike", "look_alike", "look-alike", "Look_alike")
    for name in names:
        daemon.api.create(name, "v")

    def shown() -> bool:
        friendly = [state["attributes"].get("friendly_name") for state in home.states().values()]
        return all(friendly.count(f"secretsd testnode {name} status") == 1 for name in names)

    eventually(shown, "four secrets", within=PATIENCE_SECS)


def test_refusals_and_rotations_are_counted_on_over_a_restart(home: Home, daemon: Daemon) -> None:
    before = {name: int(value(home, f"sensor.{DEVICE}_{name}") or 0) for name in ("denials", "rotations")}
    daemon.api.create("counted", type="generic")
    daemon.api.rotate("counted")
    daemon.api.as_("backend").get("/secret/counted").refused(403, "forbidden")
    daemon.sigkill()
    daemon.start().wait_bus()
    for name, count in before.items():
        home.wait_state(f"sensor.{DEVICE}_{name}", str(count + 1))


def test_an_event_tells_who_was_refused_what_and_why(home: Home, daemon: Daemon) -> None:
    daemon.api.create("not_for_you", "v")
    daemon.api.as_("backend").get("/secret/not_for_you").refused(403, "forbidden")
    eventually(
        lambda: home.state(f"event.{DEVICE}_events")["attributes"].get("name") == "not_for_you",  # type: ignore[index]
        "the event", within=PATIENCE_SECS,
    )  # fmt: skip
    attributes = home.state(f"event.{DEVICE}_events")["attributes"]  # type: ignore[index]
    assert (attributes["event_type"], attributes["client"], attributes["peer"]) == ("denied", "backend", "127.0.0.1")


def test_a_secrets_value_is_nowhere_in_home_assistant(home: Home, daemon: Daemon) -> None:
    daemon.api.create("canary", "c4n4ry-v4lue")
    home.wait_state(f"sensor.{DEVICE}_canary_status", "active")
    assert "c4n4ry-v4lue" not in str(home.states())
    assert "c4n4ry-v4lue" not in home.log


def test_home_assistant_has_nothing_to_complain_of(home: Home) -> None:
    complaints = [line for line in home.log.splitlines() if ("mqtt" in line or "template" in line) and "ERROR" in line]
    assert [line for line in complaints if "Setup failed for 'camera'" not in line] == []
