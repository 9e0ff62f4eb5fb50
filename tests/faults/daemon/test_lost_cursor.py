"""The file that says what the broker has acknowledged is lost, damaged or old: nothing owed is dropped for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.gate import Gate
from tests.support.tap import Tap
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


def cursor_of(daemon: Daemon) -> Path:
    return daemon.vault_path.with_name("vault.json.bus")


def wait_session_after(daemon: Daemon, session: int) -> None:
    """Wait for a connection whose number no connection had before."""
    eventually(lambda: daemon.api.changes()["session"] > session, f"a session after {session}")
    daemon.wait_bus()


def wait_rotations(tap: Tap, name: str, versions: list[int]) -> None:
    """Wait until these versions of `name`, and no others, were announced, in order."""
    topic = tap.topics.secret_event(name, "rotated")

    def announced() -> list[int]:
        return [heard.event.data["version"] for heard in tap.on(topic) if heard.event is not None]

    eventually(lambda: list(dict.fromkeys(announced())) == versions, f"versions {versions} of {name}")


@pytest.mark.parametrize("content", [None, b"", b"garbage"], ids=["lost", "empty", "damaged"])
def test_what_is_owed_is_told_though_the_cursor_is_gone(
    own: Broker, prefix: str, new_daemon: Callable[..., Daemon], content: bytes | None
) -> None:
    with Gate(own.port) as gate:
        daemon = new_daemon(bus=gate.url, prefix=prefix).start().wait_bus()
        daemon.api.create("x", type="generic")
        session = daemon.api.changes()["session"]
        gate.shut()
        daemon.wait_bus("disconnected")
        daemon.api.rotate("x")
        daemon.api.rotate("x")
        daemon.sigkill()
        cursor_of(daemon).unlink()
        if content is not None:
            cursor_of(daemon).write_bytes(content)
        with daemon.tap(own.url) as tap:
            gate.open()
            daemon.start()
            wait_rotations(tap, "x", [2, 3])
        wait_session_after(daemon, session)


def test_an_older_cursor_uses_no_session_twice(broker: Broker, prefix: str, new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    daemon.terminate()
    old = cursor_of(daemon).read_bytes()
    for _ in range(3):
        daemon.start().wait_bus()
        session = daemon.api.changes()["session"]
        daemon.terminate()
    cursor_of(daemon).write_bytes(old)
    daemon.start()
    wait_session_after(daemon, session)
    assert "goes on from there" in daemon.output()


def test_a_bus_that_is_turned_on_later_is_owed_nothing_older(
    broker: Broker, prefix: str, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = new_daemon(prefix=prefix).start()
    daemon.api.create("x", type="generic")
    daemon.api.rotate("x")
    daemon.terminate()
    daemon.configure({"bus": {"enabled": True, "url": broker.url}})
    with daemon.tap(broker.url) as tap:
        daemon.start().wait_bus()
        daemon.api.rotate("x")
        wait_rotations(tap, "x", [3])
