"""Deleted names and what is made under them again, over restarts and kills."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.tap import Heard

pytestmark = pytest.mark.slow

New = Callable[..., Daemon]
Again = Callable[[Daemon], None]


def restarted(daemon: Daemon) -> None:
    daemon.restart()


def killed(daemon: Daemon) -> None:
    daemon.sigkill()
    daemon.start()


@pytest.mark.parametrize("again", [restarted, killed])
def test_a_tombstone_outlives_the_daemon(new_daemon: New, again: Again) -> None:
    daemon = new_daemon().start()
    kid = daemon.api.create("x", "one")["kid"]
    before = daemon.api.get("/secrets").position
    daemon.api.delete("/secret/x").ok(204)
    again(daemon)
    daemon.api.get("/secret/x").refused(404, "not-found")
    change = daemon.api.changes(f"{before[0]}:{before[1]}")["changes"]
    assert [(c["name"], c["version"], c["kid"], c["status"]) for c in change] == [("x", 1, kid, "deleted")]


@pytest.mark.parametrize("again", [restarted, killed])
def test_a_name_made_again_continues_its_versions_after_a_restart(new_daemon: New, again: Again) -> None:
    daemon = new_daemon().start()
    kids: list[str] = []
    for life in range(5):
        made = daemon.api.create("x", f"value {life}", type="generic")
        assert made["version"] == 2 * life + 1
        assert made["previous"] is None
        kids += [made["kid"], daemon.api.rotate("x")[0]["kid"]]
        daemon.api.delete("/secret/x").ok(204)
        again(daemon)
    assert len(set(kids)) == 10
    daemon.api.create("x", "last")
    for kid in kids:
        daemon.api.get(f"/secret/x?kid={kid}").refused(404, "version-not-found")
    assert not [kid for kid in kids if kid in daemon.vault_path.read_text()]
    daemon.verified_log()


def test_the_state_of_a_deleted_name_is_told_again_after_a_restart(own: Broker, prefix: str, new_daemon: New) -> None:
    daemon = new_daemon(bus=own.url, prefix=prefix).start().wait_bus()
    daemon.api.create("x", "one")
    daemon.api.delete("/secret/x").ok(204)
    daemon.terminate()
    own.kill()
    (own.directory / "mosquitto.db").unlink(missing_ok=True)
    own.start()
    daemon.start().wait_bus()

    def is_state(status: str, version: int) -> Callable[[Heard], bool]:
        return lambda heard: (
            heard.event is not None
            and heard.event.type == "secret.state"
            and (heard.event.data["status"], heard.event.data["version"]) == (status, version)
        )

    with daemon.tap() as tap:
        tap.wait(is_state("deleted", 1), "the deleted name's state")
        daemon.api.create("x", "two")
        tap.wait(is_state("active", 2), "the state of the name made again")
