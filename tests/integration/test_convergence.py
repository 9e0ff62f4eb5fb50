"""grace: until-converged, with the real Python client: all move and the old version ends, or who lags is named."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from secretsd_client import Secret, SecretsClient, Settings

from secretsd.outbox.homeassistant.ids import device_id
from tests.support.broker import Broker
from tests.support.daemon import COMMANDS, NODE, OPEN_POLICY, Daemon
from tests.support.waiting import PATIENCE_SECS, eventually

Unique = Callable[..., str]
POLICY: dict[str, Any] = {
    **OPEN_POLICY,
    "clients": {
        "admin": {"allow": ["*"], "deny": [], "consumer": False},
        **{name: {"allow": ["db_*", "brief_*"]} for name in ("web", "worker", "script")},
    },
    "secrets": {
        "db_*": {"type": "password", "grace": "until-converged", "grace_period": "3d"},
        "brief_*": {"type": "password", "grace": "until-converged", "grace_period": "3s"},
    },
}


@pytest.fixture(scope="module")
def daemon(broker: Broker, module_prefix: str) -> Iterator[Daemon]:
    with Daemon(bus=broker.url, prefix=module_prefix, policy=POLICY) as running:
        yield running.wait_bus()


@pytest.fixture
def settings(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("JARVIS_")]:
        monkeypatch.delenv(name)
    return Settings(url=f"http://127.0.0.1:{daemon.port}", client_id="web", pubkey=daemon.public_key_path)


class Slow:
    """A callback that takes as long as a test wants: a pool that is made anew."""

    def __init__(self) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()

    def __call__(self, secret: Secret) -> None:
        self.entered.set()
        assert self.leave.wait(PATIENCE_SECS)


def states(daemon: Daemon, name: str) -> dict[str, str]:
    found = daemon.api.get(f"/secret/{name}/consumers").ok()["consumers"]
    return {one["client"] + (f"/{one['instance']}" if one["instance"] else ""): one["state"] for one in found}


def previous(daemon: Daemon, name: str) -> Any:
    return daemon.api.get(f"/secret/{name}/consumers").ok()["previous"]


def retired(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    return [line["data"] for line in daemon.events("secret.retired") if line["subject"] == name]


def test_all_clients_move_and_the_old_version_ends_at_once(daemon: Daemon, settings: Settings) -> None:
    name, slow = "db_moved", Slow()
    daemon.api.create(name)
    script = daemon.api.as_("script")
    script.value(name)
    with daemon.tap() as tap, SecretsClient(settings) as web:
        web.on_change(name, slow)
        eventually(lambda: states(daemon, name)["web"] == "in-use", "the watched version is acknowledged")
        daemon.api.rotate(name)
        assert slow.entered.wait(PATIENCE_SECS)
        assert states(daemon, name) == {"admin": "never", "script": "previous", "web": "previous", "worker": "never"}
        script.value(name)
        assert states(daemon, name)["script"] == "current"
        assert previous(daemon, name)["version"] == 1  # web has the new value, and doesn't use it yet
        slow.leave.set()
        eventually(lambda: previous(daemon, name) is None, "the old version has ended")
        assert states(daemon, name)["web"] == "in-use"
        seen = tap.wait_event(lambda event: event.type == "secret.retired" and event.subject == name, "it is told")
        assert seen.data["laggards"] == {}
    (event,) = retired(daemon, name)
    assert (event["retired_version"], event["laggards"], event["reason"]) == (1, {}, "every consumer has moved on")
    script.get(f"/secret/{name}?version=1").refused(404, "version-not-found")


def test_who_lags_is_named_at_the_deadline(daemon: Daemon, settings: Settings) -> None:
    name = "brief_lagged"
    daemon.api.create(name)
    daemon.api.as_("worker").call("GET", f"/secret/{name}", headers={"X-Jarvis-Instance": "w-1"}).ok()
    with SecretsClient(settings) as web:
        web.on_change(name, lambda _: None)
        daemon.api.rotate(name)
        eventually(lambda: states(daemon, name)["web"] == "in-use", "web has moved")
        assert previous(daemon, name)["version"] == 1
        (event,) = eventually(lambda: retired(daemon, name), "the deadline")
        daemon.wait_in_force(event["generation"])
    assert set(event["laggards"]) == {"worker/w-1"}
    assert (event["laggard_count"], event["reason"]) == (1, "grace is over")
    assert states(daemon, name)["worker/w-1"] == "outdated"


@pytest.mark.slow
def test_who_lags_is_told_by_metrics_doctor_and_home_assistants_sensor(daemon: Daemon) -> None:
    name = "db_lag"
    daemon.api.create(name)
    daemon.api.as_("worker").value(name)
    daemon.api.as_("web").value(name)
    daemon.api.rotate(name, grace_period="40s")
    daemon.api.as_("web").value(name)
    filters = [f"homeassistant/secretsd/{device_id(daemon.prefix, NODE)}/overview"]
    with daemon.tap(filters=filters) as home:
        home.wait(
            lambda heard: f"{name} (worker)" in " ".join(json.loads(heard.payload)["problems"]),
            "it is shown",
            within=60,
        )
    assert "\nsecretsd_lagging_consumers 1.0" in daemon.api.get("/metrics").body.decode()
    command = [COMMANDS / "secretsctl", "doctor", "--config", daemon.config_path, "--client", "admin", "--json"]
    ended = subprocess.run([*command, "--only", "laggards"], capture_output=True, text=True, check=False)
    (check,) = json.loads(ended.stdout)["checks"]
    assert (check["status"], check["name"]) == ("warning", "laggards")
    assert f"{name} (worker)" in check["found"]
    daemon.api.as_("worker").value(name)
    eventually(lambda: "\nsecretsd_lagging_consumers 0.0" in daemon.api.get("/metrics").body.decode(), "it has moved")


def test_a_kill_before_the_last_one_moved_and_one_after_lose_nothing(daemon: Daemon) -> None:
    name = "db_killed"
    daemon.api.create(name)
    web, worker = daemon.api.as_("web"), daemon.api.as_("worker")
    web.value(name)
    worker.value(name)
    daemon.api.rotate(name)
    web.value(name)
    daemon.sigkill()
    daemon.start()
    eventually(lambda: states(daemon, name)["web"] == "current", "the log was read")
    assert previous(daemon, name)["version"] == 1
    worker.value(name)
    daemon.sigkill()  # at any moment of the end of version 1
    daemon.start()
    eventually(lambda: previous(daemon, name) is None, "the old version has ended")
    (event,) = retired(daemon, name)
    assert event["laggards"] == {}
    daemon.verified_log()


def test_run_counts_when_its_child_has_the_new_version(daemon: Daemon, settings: Settings) -> None:
    name = "db_run"
    daemon.api.create(name)
    environment = {**os.environ, "JARVIS_SECRETS_URL": settings.url, "JARVIS_CLIENT_ID": "worker"}
    command = [COMMANDS / "secretsctl", "run", "--env", f"PASSWORD={name}", "--", "sleep", "600"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: states(daemon, name)["worker"] == "in-use", "the child was started with it")
        daemon.api.rotate(name)
        eventually(lambda: previous(daemon, name) is None, "the child was started anew")
        process.terminate()
        process.wait(PATIENCE_SECS)
    assert [event["reason"] for event in retired(daemon, name)] == ["every consumer has moved on"]
