"""Starting from nothing, from something incomplete, damaged, twice; and the signals of a daemon."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.waiting import eventually

New = Callable[..., Daemon]
LOCKED, BAD = 75, 78


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def stopped(new_daemon: New) -> Daemon:
    """A daemon that was first started, given a secret and ended in order."""
    daemon = new_daemon().start()
    daemon.api.create("x", "v")
    daemon.terminate()
    return daemon


# The first start


def test_the_first_start_makes_everything_with_the_right_modes(new_daemon: New) -> None:
    daemon = new_daemon().start()
    for path in (
        daemon.master_key_path,
        daemon.vault_path,
        daemon.audit_path,
        daemon.audit_path.with_name("audit.sign.key"),
    ):
        assert mode(path) == 0o600, path
    assert mode(daemon.public_key_path) == 0o644
    assert mode(daemon.vault_path.parent) == 0o700
    assert mode(daemon.audit_path.parent) == 0o700
    assert json.loads(daemon.vault_path.read_bytes())


@pytest.mark.parametrize("missing", ["master.key", "vault.json", "audit.jsonl", "audit.sign.key"])
def test_a_missing_file_is_a_refusal_that_names_it_and_not_a_new_vault(stopped: Daemon, missing: str) -> None:
    path = next(path for path in stopped.directory.rglob(missing))
    content = {
        file: file.read_bytes() for folder in ("secrets", "audit") for file in (stopped.directory / folder).iterdir()
    }
    aside = stopped.directory / "aside"
    path.rename(aside)
    assert str(path) in stopped.refuses(BAD)
    assert not path.exists()
    aside.rename(path)
    for file, before in content.items():
        assert file.read_bytes() == before
    stopped.start()
    assert stopped.api.value("x") == "v"


def test_an_unmounted_volume_does_not_become_an_empty_vault(stopped: Daemon) -> None:
    folder = stopped.vault_path.parent
    folder.rename(stopped.directory / "unmounted")
    folder.mkdir(0o700)
    stopped.refuses(BAD)
    # Only the lock, which comes before any file is looked at.
    assert [file.suffix for file in folder.iterdir()] == [".lock"]


def test_a_lost_public_key_is_made_again(stopped: Daemon) -> None:
    before = stopped.public_key_path.read_bytes()
    stopped.public_key_path.unlink()
    stopped.start()
    assert stopped.public_key_path.read_bytes() == before


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o666])
def test_a_master_key_that_others_can_read_is_refused(stopped: Daemon, bits: int) -> None:
    stopped.master_key_path.chmod(bits)
    assert str(stopped.master_key_path) in stopped.refuses(BAD)


# Damage


def edit_vault(daemon: Daemon, change: Callable[[bytes], bytes]) -> None:
    before = daemon.vault_path.read_bytes()
    after = change(before)
    assert after != before
    daemon.vault_path.write_bytes(after)


def bump_generation(content: bytes) -> bytes:
    document = json.loads(content)

    def bump(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: v + 1 if k == "generation" and isinstance(v, int) else bump(v) for k, v in node.items()}
        return [bump(item) for item in node] if isinstance(node, list) else node

    return json.dumps(bump(document), separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "change",
    [lambda content: content[: len(content) // 2], lambda content: b"", bump_generation,
     lambda content: content.replace(b'"x"', b'"y"'), lambda content: b"{}"],
    ids=["truncated", "emptied", "generation edited", "renamed secret", "another document"],
)  # fmt: skip
def test_an_edited_or_truncated_vault_is_refused(stopped: Daemon, change: Callable[[bytes], bytes]) -> None:
    edit_vault(stopped, change)
    assert str(stopped.vault_path) in stopped.refuses(BAD)


@pytest.mark.parametrize("which", ["vault_path", "master_key_path"])
def test_a_pipe_in_a_file_s_place_is_refused_and_not_waited_for(stopped: Daemon, which: str) -> None:
    path: Path = getattr(stopped, which)
    path.unlink()
    os.mkfifo(path, 0o600)
    assert f"{path}: not a regular file" in stopped.refuses(78)


def test_a_pipe_in_the_place_of_what_can_be_made_again_holds_nothing_up(new_daemon: New) -> None:
    daemon = new_daemon(bus="mqtt://127.0.0.1:1").start()
    daemon.terminate()
    seen = daemon.audit_path.with_name("audit.seen.json")
    for path in (seen, daemon.vault_path.with_name("vault.json.bus"), daemon.vault_path.with_name("vault.json.backup")):
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
    daemon.start()
    daemon.api.create("x", "v")
    assert daemon.api.get("/metrics").status == 200
    assert daemon.api.get("/secret/x/consumers").status == 200
    assert daemon.terminate() == 0
    assert seen.is_file(), "it is made again"


def test_a_vault_of_another_installation_is_refused(stopped: Daemon, new_daemon: New) -> None:
    other = new_daemon().start()
    other.api.create("x", "w")
    other.terminate()
    shutil.copyfile(other.vault_path, stopped.vault_path)
    assert "vault.json" in stopped.refuses(BAD)


def test_an_edited_log_is_refused(stopped: Daemon) -> None:
    lines = stopped.audit_path.read_bytes().splitlines(keepends=True)
    assert b"daemon.stopped" in lines[-1]
    lines[-1] = lines[-1].replace(b"daemon.stopped", b"daemon.started")
    stopped.audit_path.write_bytes(b"".join(lines))
    assert "audit.jsonl" in stopped.refuses(BAD)


def after_three_commits(daemon: Daemon) -> Daemon:
    """A vault reaches as far as its newest commit saw the log; three leave something to lose."""
    daemon.start()
    for value in ("two", "three", "four"):
        daemon.api.update("x", value)
    daemon.terminate()
    return daemon


def test_a_log_that_lost_its_end_is_refused_by_what_the_vault_says(stopped: Daemon) -> None:
    before = len(stopped.lines())
    after_three_commits(stopped)
    lines = stopped.audit_path.read_bytes().splitlines(keepends=True)
    stopped.audit_path.write_bytes(b"".join(lines[:before]))
    said = stopped.refuses(BAD)
    assert str(stopped.audit_path) in said
    assert "accept-rollback" in said


def test_an_older_vault_is_refused_by_what_the_log_says(stopped: Daemon) -> None:
    old = stopped.vault_path.read_bytes()
    after_three_commits(stopped)
    stopped.vault_path.write_bytes(old)
    said = stopped.refuses(BAD)
    assert str(stopped.vault_path) in said
    assert "accept-rollback" in said


def test_a_torn_last_line_is_set_aside_and_reported(stopped: Daemon) -> None:
    with stopped.audit_path.open("ab") as log:
        log.write(b'{"data":{"client":"admin","torn')
    stopped.start()
    assert stopped.api.value("x") == "v"
    events = stopped.verified_log()
    started = [event for event in events if event.type == "daemon.started"][-1]
    assert started.data["note"]
    assert b"torn" not in stopped.audit_path.read_bytes().replace(json.dumps(started.data["note"]).encode(), b"")


# One daemon per vault


def test_a_second_daemon_on_the_vault_ends_with_75_and_harms_nothing(new_daemon: New) -> None:
    first = new_daemon().start()
    first.api.create("x", "v")
    second = new_daemon()
    paths = {key: str(first.config["paths"][key]) for key in ("vault_path", "master_key_path", "audit_path")}
    second.configure({"paths": paths})
    before = first.vault_path.read_bytes()
    second.refuses(LOCKED)
    assert first.vault_path.read_bytes() == before
    assert first.api.value("x") == "v"


def test_a_taken_port_is_said_before_any_file_is_made(new_daemon: New) -> None:
    daemon = new_daemon()
    with socket.create_server(("127.0.0.1", daemon.port)):
        daemon.spawn()
        assert daemon.wait() not in (0, None)
    assert str(daemon.port) in daemon.output()
    assert "Traceback" not in daemon.output()
    for path in (daemon.vault_path, daemon.master_key_path, daemon.audit_path):
        assert not path.exists()


def test_a_socket_left_behind_by_a_kill_is_no_obstacle(new_daemon: New) -> None:
    daemon = new_daemon().start()
    daemon.sigkill()
    daemon.start()
    assert daemon.unix_api.get("/healthz").status == 200


# Signals


def test_sigterm_ends_with_0_after_signing_off(new_daemon: New) -> None:
    daemon = new_daemon().start()
    assert daemon.terminate() == 0
    assert daemon.verified_log()[-1].type == "daemon.stopped"
    assert not daemon.socket_path.exists()


def test_sigterm_ends_with_0_though_nobody_reads_any_more_what_it_says(new_daemon: New) -> None:
    daemon = new_daemon(wrap=["bash", "-c", 'exec "$@" 2> >(head -n 1 >/dev/null)', "bash"]).start()
    daemon.api.create("x", "v")
    daemon.reload()
    daemon.reload()
    assert daemon.api.value("x") == "v"
    assert daemon.terminate() == 0


def test_sigint_ends_in_order_too(new_daemon: New) -> None:
    daemon = new_daemon().start()
    daemon.signal(signal.SIGINT)
    assert daemon.wait() == 0
    assert daemon.verified_log()[-1].type == "daemon.stopped"


def write_end(path: Path) -> int:
    """Open a pipe whose reader is there already; raises OSError until it is."""
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK)


@pytest.fixture
def starting(new_daemon: New) -> Iterator[tuple[Daemon, Callable[[], object]]]:
    """A daemon that waits for the rest of its configuration, and what gives it that."""
    daemon = new_daemon()
    content = daemon.config_path.read_bytes()
    daemon.config_path.unlink()
    os.mkfifo(daemon.config_path)
    daemon.spawn()
    with os.fdopen(eventually(lambda: write_end(daemon.config_path), "it reads its configuration"), "wb") as pipe:

        def go_on() -> None:
            pipe.write(content)
            pipe.close()

        yield daemon, go_on


def test_sigterm_ends_with_0_before_anything_is_made(starting: tuple[Daemon, Callable[[], object]]) -> None:
    daemon, _ = starting
    assert daemon.terminate() == 0
    assert not daemon.vault_path.parent.exists()


def test_a_reload_that_is_asked_for_too_early_waits(starting: tuple[Daemon, Callable[[], object]]) -> None:
    daemon, go_on = starting
    daemon.reload()
    go_on()
    eventually(lambda: daemon.api.get("/healthz").status == 200, "it serves")
    eventually(lambda: daemon.events("policy.reloaded"), "it reloads")


def test_sighup_lets_a_moved_log_go(new_daemon: New) -> None:
    daemon = new_daemon().start()
    moved = daemon.audit_path.with_name("audit.jsonl.1")
    daemon.audit_path.rename(moved)
    daemon.reload()
    eventually(lambda: daemon.audit_path.exists() and daemon.lines(), "a new file")
    before = moved.read_bytes()
    daemon.api.create("x", "v")
    assert moved.read_bytes() == before


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(new_daemon: New) -> None:
    daemon = new_daemon()
    path = daemon.directory / "notify"
    daemon.env["NOTIFY_SOCKET"] = str(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(20)
        daemon.spawn()
        assert b"READY=1" in notify.recv(4096)
        assert daemon.api.get("/healthz").status == 200
        daemon.signal(signal.SIGTERM)
        told = b""
        while b"STOPPING=1" not in told:
            told = notify.recv(4096)
    assert daemon.wait() == 0


# A passphrase


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.touch(0o600)
    path.write_text("correct horse battery staple\n")
    return path


def test_a_master_key_is_wrapped_under_a_passphrase(new_daemon: New, passphrase: Path) -> None:
    daemon = new_daemon(env={"SECRETSD_PASSPHRASE_FILE": str(passphrase)}).start()
    daemon.api.create("x", "v")
    assert b"argon2id" in daemon.master_key_path.read_bytes().lower()
    daemon.restart()
    assert daemon.api.value("x") == "v"


def test_a_systemd_credential_is_a_passphrase_too(new_daemon: New, passphrase: Path) -> None:
    folder = passphrase.parent / "credentials"
    folder.mkdir(0o700)
    daemon = new_daemon(env={"CREDENTIALS_DIRECTORY": str(folder)})
    passphrase.rename(folder / "secretsd-passphrase")
    daemon.start()
    assert b"argon2id" in daemon.master_key_path.read_bytes().lower()


def test_a_wrong_passphrase_is_refused(new_daemon: New, passphrase: Path) -> None:
    daemon = new_daemon(env={"SECRETSD_PASSPHRASE_FILE": str(passphrase)}).start()
    daemon.terminate()
    passphrase.write_text("incorrect\n")
    assert "passphrase" in daemon.refuses(BAD)
    assert "incorrect" not in daemon.output()


def test_a_wrapped_key_without_a_passphrase_is_refused(new_daemon: New, passphrase: Path) -> None:
    daemon = new_daemon(env={"SECRETSD_PASSPHRASE_FILE": str(passphrase)}).start()
    daemon.terminate()
    del daemon.env["SECRETSD_PASSPHRASE_FILE"]
    assert "passphrase" in daemon.refuses(BAD)
