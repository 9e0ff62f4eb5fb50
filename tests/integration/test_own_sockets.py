"""Each client behind a Unix socket of its own: bound at start, followed at reload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.http import UnixConnection, unix
from tests.support.waiting import eventually


def policy(folder: Path, *owners: str) -> dict[str, Any]:
    own = {name: {"allow": ["shared_*"], "auth": [{"socket": str(folder / name / "s.sock")}]} for name in owners}
    return {"default_deny": True, "clients": {"admin": {"allow": ["*"]}, **own}}


@pytest.fixture
def daemon(new_daemon: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    return new_daemon(policy=policy(tmp_path, "backend", "reports")).start()


def reloaded(daemon: Daemon, kind: str, before: int) -> bool:
    return len(daemon.events(kind)) > before


def test_through_its_own_socket_a_client_is_itself_and_nobody_else(daemon: Daemon, tmp_path: Path) -> None:
    daemon.api.create("shared_one", "v")
    own = unix(tmp_path / "backend" / "s.sock", client="backend")
    assert own.value("shared_one") == "v"
    assert daemon.events("secret.read")[-1]["data"]["auth"] == "socket"
    assert own.as_("reports").get("/secret/shared_one").refused(401, "bad-credential")
    assert own.as_("admin").get("/secret/shared_one").refused(401, "bad-credential")
    assert daemon.unix_api.as_("backend").get("/secret/shared_one").refused(401, "bad-credential")
    assert daemon.api.as_("backend").get("/secret/shared_one").refused(401, "bad-credential")


def test_the_socket_is_for_the_daemons_user_and_group_and_goes_with_it(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "backend" / "s.sock"
    assert path.stat().st_mode & 0o777 == 0o660
    daemon.terminate()
    assert not path.exists()


def test_a_reload_binds_new_sockets_and_closes_old_ones(daemon: Daemon, tmp_path: Path) -> None:
    daemon.api.create("shared_one", "v")
    reports = tmp_path / "reports" / "s.sock"
    held = UnixConnection(reports)
    held.request("GET", "/secrets", headers={"X-Jarvis-Client": "reports"})
    answer = held.getresponse()
    answer.read()
    assert answer.status == 200

    before = len(daemon.events("policy.reloaded"))
    daemon.write_policy(policy(tmp_path, "backend", "late"))
    daemon.reload()
    late = unix(tmp_path / "late" / "s.sock", client="late")
    eventually(lambda: late.get("/secret/shared_one").status == 200, "the new client's socket serves")
    assert reloaded(daemon, "policy.reloaded", before)
    eventually(lambda: not reports.exists(), "the old client's socket is gone")

    held.request("GET", "/secrets", headers={"X-Jarvis-Client": "admin"})
    assert held.getresponse().status == 401, "a connection from before has become somebody else's"
    held.close()


def test_a_policy_whose_socket_cannot_be_had_is_refused_whole(daemon: Daemon, tmp_path: Path) -> None:
    daemon.api.create("shared_one", "v")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "s.sock").write_text("not a socket")
    before = len(daemon.events("policy.rejected"))
    daemon.write_policy(policy(tmp_path, "late", "taken"))
    daemon.reload()
    eventually(lambda: reloaded(daemon, "policy.rejected", before), "the policy is refused")
    assert not (tmp_path / "late" / "s.sock").exists()
    assert unix(tmp_path / "backend" / "s.sock", client="backend").value("shared_one") == "v"


def test_a_start_without_one_of_the_sockets_is_a_refusal_that_names_it(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    said = new_daemon(policy=policy(tmp_path / "missing" / "above", "backend")).refuses(69)
    assert str(tmp_path / "missing" / "above" / "backend" / "s.sock") in said
