"""The daemon knows from its own audit log who has which version of a secret, whatever happens to it in between."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import COMMANDS, OPEN_POLICY, Daemon
from tests.support.waiting import eventually

POLICY: dict[str, Any] = {
    **OPEN_POLICY,
    "clients": {
        **OPEN_POLICY["clients"],
        "backend": {"allow": ["db_*"]},
        "worker": {"allow": ["db_*"]},
        "idler": {"allow": ["db_*"]},
    },
}
NAME = "db_password"


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Daemon(policy=POLICY) as running:
        running.api.create(NAME, type="password")
        yield running


def states(daemon: Daemon) -> dict[str, str]:
    found = daemon.api.get(f"/secret/{NAME}/consumers").ok()
    return {
        one["client"] + (f"/{one['instance']}" if one["instance"] else ""): one["state"] for one in found["consumers"]
    }


def complete(daemon: Daemon) -> bool:
    found = daemon.api.get(f"/secret/{NAME}/consumers").ok()
    return bool(found["complete"])


def sightings(daemon: Daemon) -> Any:
    """What the file holds, save the times that our own questions leave there, and where in the log it ends."""
    found = json.loads(seen_file(daemon).read_bytes())
    return found["log_id"], found["since"], found["secrets"], set(found["seen"])


def seen_file(daemon: Daemon) -> Path:
    return daemon.audit_path.with_name("audit.seen.json")


def read(daemon: Daemon, client: str, query: str = "", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return daemon.api.as_(client).get(f"/secret/{NAME}{query}", named).ok()


def test_readings_and_acknowledgements_are_known_and_survive_kills_and_a_lost_file(daemon: Daemon) -> None:
    read(daemon, "backend")
    read(daemon, "worker", X_Jarvis_Instance="w-1")
    read(daemon, "worker", X_Jarvis_Instance="w-2")
    daemon.api.rotate(NAME)
    kid = read(daemon, "backend")["kid"]
    acknowledged = daemon.api.as_("backend").post(f"/secret/{NAME}/ack", {"kid": kid}).ok()
    assert acknowledged == {"name": NAME, "version": 2, "kid": kid, "current": True}
    read(daemon, "worker", X_Jarvis_Instance="w-1")
    read(daemon, "worker", "?version=previous", X_Jarvis_Instance="w-1")
    expected = {
        "admin": "never",
        "backend": "in-use",
        "idler": "never",
        "worker/w-1": "current",
        "worker/w-2": "previous",
    }
    assert states(daemon) == expected

    daemon.sigkill()
    assert not seen_file(daemon).exists()  # nothing was saved yet: all of it comes from the log
    daemon.start()
    eventually(lambda: complete(daemon), "the log was read")
    assert states(daemon) == expected
    daemon.terminate()
    saved = sightings(daemon)

    seen_file(daemon).unlink()
    daemon.start()
    eventually(lambda: complete(daemon), "the log was read")
    assert states(daemon) == expected
    daemon.terminate()
    assert sightings(daemon) == saved
    assert oct(seen_file(daemon).stat().st_mode & 0o777) == "0o600"

    daemon.start()
    read(daemon, "idler")
    daemon.sigkill()  # after the file, before the next one
    daemon.start()
    eventually(lambda: complete(daemon), "the log was read")
    assert states(daemon) == {**expected, "idler": "current"}
    daemon.verified_log()


def test_secretsctl_shows_the_consumers_in_a_table_and_as_json(daemon: Daemon) -> None:
    read(daemon, "backend")
    daemon.api.rotate(NAME)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JARVIS_")},
        "JARVIS_SECRETS_URL": f"http://127.0.0.1:{daemon.port}",
        "JARVIS_CLIENT_ID": "admin",
    }

    def ctl(*arguments: str) -> str:
        command = [COMMANDS / "secretsctl", *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    headline, columns, *rows = ctl("consumers", NAME).splitlines()
    assert headline.startswith(f"{NAME}: version 2 since ")
    assert "version 1 readable until" in headline
    assert columns.split() == ["CLIENT", "VERSION", "STATE", "READ", "ACKNOWLEDGED", "LAST", "SEEN"]
    assert [row.split()[0] for row in rows] == ["admin", "backend", "idler", "worker"]
    assert rows[1].split()[1:3] == ["1", "previous"]
    found = json.loads(ctl("consumers", NAME, "--json"))
    assert [one["state"] for one in found["consumers"]] == ["never", "previous", "never", "never"]


def test_an_instance_that_is_no_name_or_comes_twice_is_refused(daemon: Daemon) -> None:
    for instance in ("", "a b", "/", "x" * 129):
        assert daemon.api.get(f"/secret/{NAME}", {"X-Jarvis-Instance": instance}).refused(400, "invalid-request")
    twice = [("X-Jarvis-Instance", "a"), ("X-Jarvis-Instance", "b")]
    assert daemon.api.get(f"/secret/{NAME}", twice).refused(400, "invalid-request")
