"""SIGKILL in a stream of rotations: nothing acknowledged is lost, the chain holds, every event is delivered."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.bench.places import daemon as filled
from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.tap import Heard
from tests.support.waiting import eventually

NAMES = [f"s{number}" for number in range(4)]


class Stream:
    """Rotates secrets again and again on a thread and notes what the daemon acknowledged."""

    def __init__(self, daemon: Daemon, *names: str) -> None:
        self.acknowledged: list[dict[str, Any]] = []
        self._daemon = daemon
        self._names = names
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                answer = self._daemon.api.post("/rotate", {"names": self._names, "grace_period": "1d"})
            except (OSError, http.client.HTTPException):
                return  # the daemon is gone: what it was doing is not acknowledged
            self.acknowledged.extend(answer.ok()["rotated"])


def kill_in_a_stream(daemon: Daemon, rng: random.Random) -> list[dict[str, Any]]:
    """Rotate all names at once, kill the daemon meanwhile, start it; return what it acknowledged."""
    if rng.random() < 0.5:
        daemon.wait_bus()  # half of the kills come while it publishes, half before it could
    streams = [Stream(daemon, name) for name in NAMES]
    wanted = rng.randint(1, 30)
    eventually(lambda: sum(len(stream.acknowledged) for stream in streams) >= wanted, "the stream flows")
    daemon.sigkill()
    for stream in streams:
        stream.join()
    daemon.start()
    return [metadata for stream in streams for metadata in stream.acknowledged]


def is_version(topic: str, version: int) -> Callable[[Heard], bool]:
    """Tell whether a message announces `version` on `topic`."""
    return lambda heard: heard.topic == topic and heard.event is not None and heard.event.data["version"] == version


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_nothing_acknowledged_is_lost_by_a_kill(
    broker: Broker, prefix: str, new_daemon: Callable[..., Daemon], kills: int
) -> None:
    rng = random.Random(2)
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    for name in NAMES:
        daemon.api.create(name, type="generic")
    with daemon.tap() as tap:
        acknowledged: list[dict[str, Any]] = []
        for _ in range(kills):
            acknowledged += kill_in_a_stream(daemon, rng)
            newest = {m["name"]: m for m in sorted(acknowledged, key=lambda m: m["version"])}
            for name, metadata in newest.items():
                assert daemon.api.secret(name)["version"] >= metadata["version"]
        daemon.wait_bus()

        log = daemon.verified_log()
        rotated = [event for event in log if event.type == "secret.rotated"]
        in_log = {(event.data["name"], event.data["version"], event.data["kid"]) for event in rotated}
        assert {(m["name"], m["version"], m["kid"]) for m in acknowledged} <= in_log

        for name in NAMES:
            last = daemon.api.secret(name)["version"]
            versions = [event.data["version"] for event in rotated if event.subject == name]
            assert versions == list(range(2, last + 1))

            topic = tap.topics.secret_event(name, "rotated")
            tap.wait(is_version(topic, last), f"version {last} of {name}", within=60)
            arrived = [heard.event.data["version"] for heard in tap.on(topic) if heard.event is not None]
            assert list(dict.fromkeys(arrived)) == versions  # redelivered is normal, out of order is not
        assert tap.refusals == []


def test_a_second_kill_right_after_the_start_loses_nothing_either(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon().start()
    kid = daemon.api.create("x", "v")["kid"]
    for _ in range(3):
        daemon.sigkill()
        daemon.spawn()
    daemon.sigkill()
    daemon.start()
    assert daemon.api.secret("x")["kid"] == kid
    daemon.verified_log()


def test_a_kill_in_the_middle_of_a_large_commit_leaves_each_line_once() -> None:
    names = [f"n{number}" for number in range(3000)]
    with filled(secrets=len(names)) as daemon:
        before = daemon.audit_path.stat().st_size
        change = Stream(daemon, *names)
        eventually(lambda: daemon.audit_path.stat().st_size > before + 200_000, "its lines are being written")
        daemon.sigkill()
        change.join()
        daemon.start()
        rotated = [event.subject for event in daemon.verified_log() if event.type == "secret.rotated"]
        assert change.acknowledged == []
        assert sorted(map(str, rotated)) == sorted(names)
        assert daemon.api.secret("n2999")["version"] == 2
