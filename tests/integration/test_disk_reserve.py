"""With a full disk an operator can still act; nobody can read until there is room again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from secretsd.reserve import FILE_NAME, FREE_BEFORE_BYTES, RESERVED_BYTES
from tests.support.daemon import COMMANDS, Daemon
from tests.support.waiting import eventually

DISK_BYTES = 8 * RESERVED_BYTES
SMALLEST_BYTES = FREE_BEFORE_BYTES + 2 * 1024 * 1024
"""A disk on which a reserve is just taken; with what comes to lie there it isn't empty enough for that again."""
LET_GO_BYTES = 256 * 1024


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', DISK_BYTES)},mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system of its own can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        step = 1024 * 1024
        while step:
            try:
                file.write(bytes(step))
            except OSError:
                step //= 2
    return filler


def on(disk: Path) -> dict[str, dict[str, str]]:
    """Return the configuration that keeps all state on `disk`."""
    return {
        "paths": {
            "vault_path": str(disk / "vault.json"),
            "master_key_path": str(disk / "master.key"),
            "audit_path": str(disk / "audit.jsonl"),
        }
    }


def test_a_full_disk_leaves_room_for_an_operators_change_and_for_nothing_else(
    small_disk: Path, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = new_daemon(config=on(small_disk)).start()
    leaked = daemon.api.create("leaked", type="generic")
    assert (small_disk / FILE_NAME).stat().st_size == RESERVED_BYTES
    filler = fill(small_disk)
    eventually(lambda: daemon.api.get("/secret/leaked").status == 503, "no line can be written")

    [rotated] = daemon.api.rotate("leaked", urgent=True)
    assert rotated["kid"] != leaked["kid"]
    daemon.api.get("/secret/leaked").refused(503, "audit-unavailable")
    daemon.api.as_("nobody").get("/secret/leaked").refused(503, "audit-unavailable")
    assert daemon.api.get("/healthz").status == 503

    filler.unlink()
    eventually(lambda: daemon.api.get("/healthz").status == 200, "it can serve again, though nobody asked it to")
    assert daemon.api.secret("leaked")["kid"] == rotated["kid"]
    assert (small_disk / FILE_NAME).stat().st_size == RESERVED_BYTES


def test_a_daemon_that_starts_on_a_full_disk_lets_an_operator_act(
    small_disk: Path, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = new_daemon(config=on(small_disk)).start()
    leaked = daemon.api.create("leaked", type="generic")
    fill(small_disk)
    eventually(lambda: daemon.api.get("/secret/leaked").status == 503, "no line can be written")
    daemon.sigkill()
    daemon.spawn()
    eventually(lambda: daemon.api.get("/healthz").status == 503, "it answers")
    daemon.api.get("/secret/leaked").refused(503, "audit-unavailable")
    [rotated] = daemon.api.rotate("leaked", urgent=True)
    assert rotated["kid"] != leaked["kid"]


@pytest.mark.parametrize("end", [Daemon.terminate, Daemon.sigkill])
def test_what_was_kept_for_changes_stays_kept_over_a_restart(
    small_disk: Path, new_daemon: Callable[..., Daemon], end: Callable[[Daemon], object]
) -> None:
    daemon = new_daemon(config=on(small_disk)).start()
    for name in ("first", "second"):
        daemon.api.create(name, type="generic")
    filler = fill(small_disk)
    eventually(lambda: daemon.api.get("/secret/first").status == 503, "no line can be written")
    daemon.api.rotate("first", urgent=True)
    end(daemon)

    daemon.spawn()
    eventually(lambda: daemon.api.get("/healthz").status == 503, "it answers")
    assert "until 8 MiB are free" in daemon.api.get("/healthz").json()["reason"]
    logged = (small_disk / "audit.jsonl").read_bytes()
    for path in ("/secret/first", "/secrets", "/changes"):
        daemon.api.get(path).refused(503, "audit-unavailable")
    assert (small_disk / "audit.jsonl").read_bytes() == logged
    daemon.api.rotate("second", urgent=True)

    filler.unlink()
    eventually(lambda: daemon.api.get("/healthz").status == 200, "it can serve again, though nobody asked it to")
    assert daemon.api.secret("second")["version"] == 2


@pytest.mark.parametrize("small_disk", [SMALLEST_BYTES], indirect=True)
def test_on_a_small_disk_there_is_a_way_back_though_something_stays_on_it(
    small_disk: Path, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = new_daemon(config=on(small_disk)).start()
    daemon.api.create("leaked", type="generic")
    assert (small_disk / FILE_NAME).stat().st_size == RESERVED_BYTES
    (small_disk / "stays").write_bytes(bytes(2 * 1024 * 1024))
    filler = fill(small_disk)
    eventually(lambda: daemon.api.get("/secret/leaked").status == 503, "no line can be written")
    daemon.api.rotate("leaked", urgent=True)

    filler.unlink()
    eventually(lambda: daemon.api.get("/healthz").status == 200, "it can serve again with what is free")
    assert daemon.api.secret("leaked")["version"] == 2
    assert (small_disk / FILE_NAME).stat().st_size == RESERVED_BYTES


def test_the_log_says_whether_it_is_written_for_everybody_again(
    small_disk: Path, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = new_daemon(config=on(small_disk)).start()
    daemon.api.create("leaked", type="generic")
    filler = fill(small_disk)
    eventually(lambda: daemon.api.get("/secret/leaked").status == 503, "no line can be written")
    daemon.api.rotate("leaked", urgent=True)
    again = "the audit log can be written again"
    assert f"{again}, for changes by hand only" in daemon.output()
    assert daemon.output().count(again) == 1
    filler.unlink()
    eventually(lambda: "there is room on the disk again" in daemon.output(), "it says that all is well")


def test_the_log_can_be_pruned_on_a_full_disk(small_disk: Path, new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(config=on(small_disk)).start()
    daemon.api.create("x", "v")
    while (small_disk / "audit.jsonl").stat().st_size < LET_GO_BYTES:
        daemon.api.secret("x")
    log = small_disk / "audit.jsonl"
    log.rename(small_disk / "audit.jsonl.1")
    for value in ("w", "x"):  # in the next file: with the second the file before is needed no more
        daemon.api.update("x", value)
    filler = fill(small_disk)
    eventually(lambda: daemon.api.get("/secret/x").status == 503, "no line can be written")

    done = subprocess.run(
        [COMMANDS / "secretsctl", "audit", "prune", "--before", "0s", "--yes", "--config", daemon.config_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "removed 1 file" in done.stdout
    assert not (small_disk / "audit.jsonl.1").exists()
    eventually(lambda: daemon.api.get("/healthz").status == 200, "it can serve again, of what was pruned")
    assert filler.exists()
    assert (small_disk / FILE_NAME).stat().st_size == RESERVED_BYTES, "what the record took is put back"


def test_a_reserve_that_had_no_room_at_the_start_is_taken_later(
    small_disk: Path, new_daemon: Callable[..., Daemon]
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(DISK_BYTES - 2 * RESERVED_BYTES))
    daemon = new_daemon(config=on(small_disk)).start()
    assert not (small_disk / FILE_NAME).exists()
    filler.unlink()
    eventually((small_disk / FILE_NAME).exists, "there is room, so it is taken")
    assert daemon.api.get("/healthz").status == 200
