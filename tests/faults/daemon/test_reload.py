"""SIGHUP: a changed policy is a commit that clients see; a bad one is refused whole; under load and over restarts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.faults.daemon.load import Load
from tests.support.broker import Broker
from tests.support.daemon import NODE, OPEN_POLICY, Daemon
from tests.support.waiting import eventually

New = Callable[..., Daemon]
BAD_POLICIES = {
    "no YAML": "default_deny: true\nclients: [\n",
    "unknown right": {**OPEN_POLICY, "clients": {"admin": {"allow": ["*"], "can": ["fly"]}}},
    "default allow": {**OPEN_POLICY, "default_deny": False},
    "doubled client": "default_deny: true\nclients:\n  admin: {allow: ['*']}\n  admin: {allow: ['*']}\n",
    "empty": "",
    "binary": "\x00\x01\x02",
}


def without(policy: Mapping[str, Any], client: str, name: str) -> dict[str, Any]:
    """The policy with one right withdrawn."""
    rules = policy["clients"][client]
    allow = [pattern for pattern in rules["allow"] if pattern != name]
    return {**policy, "clients": {**policy["clients"], client: {**rules, "allow": allow}}}


@pytest.fixture
def daemon(new_daemon: New) -> Daemon:
    daemon = new_daemon().start()
    daemon.api.create("postgres_password", "v")
    daemon.api.create("shared_x", "v")
    return daemon


def reloaded(daemon: Daemon, generation: int) -> None:
    daemon.reload()
    eventually(lambda: daemon.api.get("/secrets").position[1] >= generation, "the reload is a commit")


def test_a_withdrawn_right_ends_with_the_reload(daemon: Daemon) -> None:
    backend = daemon.api.as_("backend")
    before = backend.changes()
    assert backend.value("postgres_password") == "v"
    daemon.write_policy(without(OPEN_POLICY, "backend", "postgres_password"))
    reloaded(daemon, before["generation"] + 1)
    backend.get("/secret/postgres_password").refused(403, "forbidden")
    assert backend.value("shared_x") == "v"
    epoch, generation = backend.get("/secrets").position
    assert (epoch, generation) == (before["epoch"], before["generation"] + 1)
    event = daemon.events("policy.reloaded")[-1]["data"]
    assert (event["epoch"], event["generation"]) == (epoch, generation)
    backend.get(f"/changes?since={epoch}:{before['generation']}").refused(410, "history-gone")
    assert [c["name"] for c in backend.changes()["changes"]] == ["shared_x"]
    assert backend.changes(f"{epoch}:{generation}")["changes"] == []


def test_a_reload_without_a_change_is_a_commit_too(daemon: Daemon) -> None:
    before = daemon.api.get("/secrets").position[1]
    reloaded(daemon, before + 1)
    assert daemon.events("policy.reloaded")[-1]["data"]["generation"] == before + 1


@pytest.mark.parametrize("policy", BAD_POLICIES.values(), ids=BAD_POLICIES.keys())
def test_a_bad_policy_is_on_record_and_changes_nothing(daemon: Daemon, policy: Any) -> None:
    before = daemon.api.get("/secrets").position
    daemon.write_policy(policy)
    daemon.reload()
    eventually(lambda: daemon.events("policy.rejected"), "the refusal is on record")
    assert daemon.api.get("/secrets").position == before
    assert daemon.api.as_("backend").value("shared_x") == "v"
    assert daemon.api.get("/healthz").status == 200
    daemon.api.as_("backend").changes(f"{before[0]}:{before[1]}")
    daemon.write_policy(OPEN_POLICY)
    reloaded(daemon, before[1] + 1)


def test_a_policy_that_is_gone_changes_nothing(daemon: Daemon) -> None:
    daemon.policy_path.unlink()
    daemon.reload()
    eventually(lambda: daemon.events("policy.rejected"), "the refusal is on record")
    assert daemon.api.as_("backend").value("shared_x") == "v"


def test_a_pipe_in_the_policys_place_holds_up_neither_a_reload_nor_the_end(daemon: Daemon) -> None:
    daemon.policy_path.unlink()
    os.mkfifo(daemon.policy_path)
    daemon.reload()
    eventually(lambda: daemon.events("policy.rejected"), "the refusal is on record")
    assert daemon.api.as_("backend").value("shared_x") == "v"
    assert daemon.terminate() == 0


def test_a_policy_changed_while_the_daemon_was_down_sends_clients_to_start_over(daemon: Daemon) -> None:
    backend = daemon.api.as_("backend")
    before = backend.changes()
    daemon.terminate()
    daemon.write_policy(without(OPEN_POLICY, "backend", "postgres_password"))
    daemon.start()
    backend.get(f"/changes?since={before['epoch']}:{before['generation']}").refused(410, "history-gone")
    backend.get("/secret/postgres_password").refused(403, "forbidden")


def test_fifty_reloads_under_load_fail_nobody(daemon: Daemon) -> None:
    before = daemon.api.get("/secrets").position[1]
    with Load(daemon, "shared_x", clients=4) as load:
        for number in range(50):
            reloaded(daemon, before + number + 1)
    assert load.odd == []
    assert set(load.statuses) == {200}
    daemon.verified_log()


def test_clients_hear_of_a_reload_by_the_checkpoint(broker: Broker, prefix: str, new_daemon: New) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    before = daemon.api.get("/secrets").position[1]
    with daemon.tap() as tap:
        daemon.reload()
        tap.wait(
            lambda heard: (
                heard.topic == tap.topics.checkpoint(NODE)
                and heard.event is not None
                and heard.event.data["generation"] == before + 1
            ),
            "a checkpoint of the new generation",
        )
        tap.wait_topic(tap.topics.audit("policy", "reloaded"))
