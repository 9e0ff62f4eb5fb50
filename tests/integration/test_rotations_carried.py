"""Rotations that reach the other end, with real daemons that are killed, and a program that changes a password."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import OPEN_POLICY, Daemon
from tests.support.lockbox import FIRST, Lockbox
from tests.support.waiting import eventually

NAME = "db_password"


@pytest.fixture
def box(tmp_path: Path) -> Lockbox:
    return Lockbox(tmp_path / "box")


@pytest.fixture
def daemon(new_daemon: Callable[..., Daemon], box: Lockbox) -> Daemon:
    policy = dict(OPEN_POLICY) | {"secrets": {NAME: box.rule(timeout="20s")}}
    daemon = new_daemon(policy=policy).start()
    daemon.api.create(NAME, FIRST)
    return daemon


def asked(daemon: Daemon) -> threading.Thread:
    """Ask for a rotation and don't wait for its answer, which may never come."""

    def ask() -> None:
        try:
            daemon.api.post("/rotate", {"names": [NAME]})
        except (OSError, http.client.HTTPException):
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def rotated(daemon: Daemon, version: int = 2) -> bool:
    return bool(daemon.api.secret(NAME)["version"] == version)


def test_the_answer_comes_when_the_other_end_has_the_value_and_it_works_there(daemon: Daemon, box: Lockbox) -> None:
    (metadata,) = daemon.api.rotate(NAME, reason="quarterly")
    assert metadata["version"] == 2
    assert "pending" not in metadata
    assert daemon.api.value(NAME) == box.password != FIRST
    assert [what for what, *_ in box.calls()] == ["set", "test"]


def test_the_program_is_given_nothing_of_the_daemons_environment(daemon: Daemon, box: Lockbox) -> None:
    daemon.api.rotate(NAME)
    assert {tuple(names) for *_, names in box.calls()} <= {("LANG", "PATH"), ("LANG", "LC_CTYPE", "PATH")}


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("before-set", marks=pytest.mark.slow),
        "after-set",
        pytest.param("before-test", marks=pytest.mark.slow),
        "after-test",
    ],
)
def test_killed_at_any_step_it_goes_on_with_the_same_value(daemon: Daemon, box: Lockbox, place: str) -> None:
    blocked = box.block(place)
    asked(daemon)
    box.wait_blocked(place)
    taken = box.password
    daemon.sigkill()
    blocked.unlink()
    daemon.start()
    eventually(lambda: rotated(daemon), "the rotation is carried on")
    assert daemon.api.value(NAME) == box.password != FIRST
    assert box.password == taken or place == "before-set"
    assert {version for _, _, version, _ in box.calls()} == {2}
    assert len({token for _, token, _, _ in box.calls()}) == 1
    kinds = [event.type for event in daemon.verified_log() if event.type.startswith("secret.rotat")]
    assert kinds == ["secret.rotation_started", "secret.rotated"]


def test_killed_while_the_old_value_is_put_back_both_ends_agree_after_the_next_start(
    daemon: Daemon, box: Lockbox
) -> None:
    failing, blocked = box.fail("test"), box.block("before-rollback")
    asked(daemon)
    box.wait_blocked("before-rollback")
    assert box.password != FIRST
    daemon.sigkill()
    blocked.unlink()
    daemon.start()
    eventually(lambda: box.password == FIRST, "the old value works again")
    assert daemon.api.value(NAME) == FIRST
    failing.unlink()
    eventually(lambda: rotated(daemon), "it gets through in the end")
    assert daemon.api.value(NAME) == box.password


def test_a_stop_in_order_lets_what_was_set_become_current(daemon: Daemon, box: Lockbox) -> None:
    blocked = box.block("after-set")
    asked(daemon)
    box.wait_blocked("after-set")
    ending = threading.Thread(target=daemon.terminate)
    ending.start()
    blocked.unlink()
    ending.join(20)
    daemon.start()
    assert rotated(daemon)
    assert box.password == daemon.api.value(NAME)


def test_a_rotation_that_is_refused_is_answered_as_accepted_and_says_why_without_the_value(
    daemon: Daemon, box: Lockbox
) -> None:
    refusing = box.fail("set", 77)
    answer = daemon.api.post("/rotate", {"names": [NAME]})
    pending = answer.ok(202)["rotated"][0]["pending"]
    assert (pending["step"], pending["failing"], pending["attempts"]) == ("set", True, 1)
    assert pending["failure"].startswith("set: lockbox ended with status 77: cannot set [struck out]")
    assert daemon.api.value(NAME) == FIRST == box.password
    (failed,) = daemon.events("secret.rotation_failed")
    assert (failed["data"]["step"], failed["data"]["attempts"], failed["data"]["version"]) == ("set", 1, 1)
    metrics = daemon.api.get("/metrics").body.decode()
    assert "secretsd_rotations_failing 1.0" in metrics
    assert 'secretsd_rotation_steps_total{outcome="refused",step="set"} 1.0' in metrics
    assert NAME not in metrics
    refusing.unlink()
    assert daemon.api.rotate(NAME)[0]["version"] == 2


def test_it_is_cancelled_by_a_call_of_its_own(daemon: Daemon, box: Lockbox) -> None:
    refusing = box.fail("test", 77)
    assert daemon.api.post("/rotate", {"names": [NAME]}).status == 202
    assert daemon.api.put(f"/secret/{NAME}", {"value": "another-password"}).refused(409, "rotation-pending")
    refusing.unlink()
    metadata = daemon.api.delete(f"/secret/{NAME}/rotation").ok()
    assert (metadata["version"], "pending" in metadata) == (1, False)
    assert daemon.api.value(NAME) == FIRST == box.password


def test_a_program_that_others_could_exchange_is_not_run(daemon: Daemon, box: Lockbox) -> None:
    box.program.chmod(0o777)
    pending = daemon.api.post("/rotate", {"names": [NAME]}).ok(202)["rotated"][0]["pending"]
    assert "could be changed by others" in pending["failure"]
    assert box.calls() == []


def test_no_value_is_in_the_log_or_in_what_the_daemon_prints(daemon: Daemon, box: Lockbox) -> None:
    refusing = box.fail("set", 77)
    daemon.api.post("/rotate", {"names": [NAME]})
    refusing.unlink()
    daemon.api.rotate(NAME)
    for value in (FIRST, box.password):
        assert value not in daemon.audit_path.read_text()
        assert value not in daemon.output()
        assert value not in daemon.vault_path.read_text()


def test_it_is_on_the_bus_from_its_begin(
    broker: Any, prefix: str, new_daemon: Callable[..., Daemon], box: Lockbox
) -> None:
    policy = dict(OPEN_POLICY) | {"secrets": {NAME: box.rule()}}
    daemon = new_daemon(policy=policy, bus=broker.url, prefix=prefix).start().wait_bus()
    daemon.api.create(NAME, FIRST)
    with daemon.tap() as tap:
        box.fail("set", 77)
        daemon.api.post("/rotate", {"names": [NAME]})
        for verb in ("rotation_started", "rotation_failed"):
            topic = f"{prefix}/secret/{NAME}/{verb}"
            heard = tap.wait(lambda heard, topic=topic: heard.topic == topic, f"{verb} is published")
            assert heard.event is not None
            assert heard.event.data["name"] == NAME


def test_no_step_outlives_a_killed_daemon(daemon: Daemon, box: Lockbox) -> None:
    """A rollback that came after the next daemon's set would leave the other end with a value that nobody is given."""
    box.fail("test")
    blocked = box.block("before-rollback")
    asked(daemon)
    box.wait_blocked("before-rollback")
    assert running(box) == 1
    daemon.sigkill()
    eventually(lambda: running(box) == 0, "the program ended with its daemon")
    blocked.unlink()


def running(box: Lockbox) -> int:
    """Count the processes that run the program."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found += str(box.program).encode() in (folder / "cmdline").read_bytes().split(b"\0")
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_again_and_again_both_ends_always_agree_in_the_end(daemon: Daemon, box: Lockbox) -> None:
    """SIGKILL at random moments of fifty rotations: what is given out is what the other end takes, each time."""
    rng = random.Random(7)
    passwords: dict[int, str] = {1: FIRST}
    for _ in range(50):
        request = asked(daemon)
        time.sleep(rng.random() * 0.25)
        daemon.sigkill()
        request.join(20)
        daemon.start()
        # Whatever was under way is through with it, or a new one is.
        daemon.api.rotate(NAME)
        secret = daemon.api.secret(NAME)
        assert secret["value"] == box.password
        assert secret["version"] not in passwords
        passwords[secret["version"]] = secret["value"]
    assert len(set(passwords.values())) == len(passwords)
    tokens: dict[int, set[str]] = {}
    for _, token, number, _ in box.calls():
        tokens.setdefault(number, set()).add(token)
    assert all(len(found) == 1 for found in tokens.values()), "one version, one token"
