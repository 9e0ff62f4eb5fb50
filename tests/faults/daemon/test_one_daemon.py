"""One daemon for a vault, one for a port, one for a topic prefix."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import NODE, Daemon
from tests.support.waiting import always, eventually

pytestmark = pytest.mark.slow

LOCKED, NO_SOCKET = 75, 69
New = Callable[..., Daemon]


def content(daemon: Daemon) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (daemon.vault_path, daemon.master_key_path, daemon.audit_path)}


@pytest.mark.parametrize("through", ["itself", "a symlink to its folder", "dots", "a symlink to the file"])
def test_a_second_daemon_on_a_vault_is_refused_by_whatever_path_it_comes(new_daemon: New, through: str) -> None:
    first, second = new_daemon().start(), new_daemon()
    first.api.create("x", "v")
    folder, status = first.vault_path.parent, LOCKED
    match through:
        case "a symlink to its folder":
            (second.directory / "link").symlink_to(folder)
            folder = second.directory / "link"
        case "dots":
            folder = folder / ".." / folder.name
        case "a symlink to the file":
            folder, status = second.directory / "secrets", 78
            folder.mkdir()
            for path in (first.vault_path, first.master_key_path):
                (folder / path.name).symlink_to(path)
    paths = {
        "vault_path": folder / "vault.json",
        "master_key_path": folder / "master.key",
        "audit_path": first.audit_path,
    }
    second.configure({"paths": {key: str(path) for key, path in paths.items()}})
    before = content(first)
    for _ in range(3):
        second.refuses(status)
    assert content(first) == before
    assert first.api.value("x") == "v"
    first.verified_log()


def test_the_lock_goes_with_a_kill(new_daemon: New) -> None:
    first = new_daemon().start()
    first.sigkill()
    first.start()
    assert first.api.get("/healthz").status == 200


def test_a_taken_port_is_status_69_and_touches_no_file(new_daemon: New) -> None:
    daemon = new_daemon().start()
    daemon.api.create("x", "v")
    daemon.terminate()
    before = content(daemon)
    with socket.create_server(("127.0.0.1", daemon.port)):
        said = daemon.refuses(NO_SOCKET)
    assert str(daemon.port) in said
    assert "taken by another process" in said
    assert content(daemon) == before


def test_a_taken_unix_socket_is_status_69_and_stays_the_others(new_daemon: New) -> None:
    daemon = new_daemon()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(daemon.socket_path))
        other.listen()
        inode = daemon.socket_path.stat().st_ino
        assert "another process listens there" in daemon.refuses(NO_SOCKET)
        assert daemon.socket_path.stat().st_ino == inode


def says(daemon: Daemon, words: str) -> bool:
    return words in daemon.output()


@pytest.mark.parametrize("node", [NODE, "elsewhere"])
def test_a_second_vault_under_the_same_prefix_is_noticed_by_both(
    broker: Broker, prefix: str, new_daemon: New, node: str
) -> None:
    first = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    second = new_daemon(bus=broker.url, prefix=prefix, config={"bus": {"node": node}}).start().wait_bus()
    for daemon in (first, second):
        eventually(partial(says, daemon, "another daemon speaks on"), "it is noticed", within=10)
        assert daemon.api.get("/healthz").status == 200
    eventually(partial(says, first, f"another daemon speaks on {prefix}/checkpoint/{node}"), "its checkpoint is named")
    named = [line for line in first.output().splitlines() if "another daemon speaks on" in line]
    assert len(named) <= 2  # each topic once, however often it speaks


def copy_of(first: Daemon, second: Daemon) -> None:
    """Give `second` the vault, the keys and the log of `first`, which is stopped."""
    for folder in (first.vault_path.parent, first.audit_path.parent):
        shutil.copytree(folder, second.directory / folder.name)


def test_a_copy_of_the_vault_that_is_served_under_another_name_is_noticed_by_both(
    broker: Broker, prefix: str, new_daemon: New
) -> None:
    first = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    second = new_daemon(bus=broker.url, prefix=prefix, config={"bus": {"node": "elsewhere"}})
    first.terminate()
    copy_of(first, second)
    for daemon in (first, second):
        daemon.start().wait_bus()
    for daemon, other in ((first, "elsewhere"), (second, NODE)):
        said = f"another daemon speaks on {prefix}/checkpoint/{other} with the keys of this vault"
        eventually(partial(says, daemon, said), "it is noticed", within=10)
        assert daemon.api.get("/healthz").status == 200


def test_a_daemon_with_another_name_than_before_notices_nobody(broker: Broker, prefix: str, new_daemon: New) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    daemon.sigkill()
    daemon.configure({"bus": {"node": "elsewhere"}})
    daemon.start().wait_bus()
    always(lambda: "another daemon" not in daemon.output(), "its own earlier messages are foreign to it", during=2.5)


def test_a_daemon_alone_under_its_prefix_notices_nobody(broker: Broker, prefix: str, new_daemon: New) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    daemon.restart().wait_bus()
    daemon.sigkill()
    daemon.start().wait_bus()
    always(lambda: "another daemon" not in daemon.output(), "its own earlier messages are foreign to it", during=2.5)
