"""doctor: swap, clock, and what the kernel lets the daemon do."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from secretsd.cli.checks.host import Swap, block_protection, judge_clock, judge_swap
from secretsd.model import Health
from tests.unit.cli.installation import Installation

HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path).start_first()


@pytest.fixture
def proc(place: Installation, tmp_path: Path) -> Iterator[Path]:
    """A /proc in which this process is the daemon."""
    folder = tmp_path / "proc"
    (folder / str(os.getpid())).mkdir(parents=True)
    with place.state.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "locks").write_text(Path("/proc/locks").read_text())
        yield folder


def health(clock: str) -> Health:
    return Health(
        status="ok", version="0", uptime_secs=1, secrets_count=0, bus="connected", clock=clock, reason=None
    )  # fmt: skip


def test_no_swap_is_in_order(place: Installation, tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text(HEADER)
    assert place.look("swap", proc=tmp_path).status == "ok"
    assert place.look("swap", proc=tmp_path / "nothing").status == "ok"


def test_a_swap_file_on_a_plain_disk_is_a_warning_with_the_way_off(place: Installation, tmp_path: Path) -> None:
    file = tmp_path / "swap file"
    file.touch()
    (tmp_path / "swaps").write_text(HEADER + str(file).replace(" ", "\\040") + "\tfile\t\t1024\t\t0\t\t-2\n")
    finding = place.look("swap", proc=tmp_path, sys=tmp_path / "sys")
    assert finding.status == "warning"
    assert f"swapoff {file}" in finding.fixes


def test_encrypted_swap_is_in_order() -> None:
    assert judge_swap([Swap("/dev/dm-0", "encrypted"), Swap("/dev/zram0", "in memory")]).status == "ok"
    assert judge_swap([Swap("/dev/dm-0", "encrypted"), Swap("/dev/sda2", "")]).status == "warning"


def test_what_lies_under_a_device_decides(tmp_path: Path) -> None:
    crypt, disk, volume = (tmp_path / name for name in ("dm-0", "sda2", "dm-1"))
    for device in (crypt, volume):
        (device / "dm").mkdir(parents=True)
        (device / "slaves").mkdir()
    disk.mkdir()
    (crypt / "dm" / "uuid").write_text("CRYPT-PLAIN-swap\n")
    (volume / "dm" / "uuid").write_text("LVM-abc\n")
    assert block_protection(crypt) == "encrypted"
    assert block_protection(disk) == ""
    (volume / "slaves" / "dm-0").symlink_to(crypt)
    assert block_protection(volume) == "encrypted"
    (volume / "slaves" / "sda2").symlink_to(disk)
    assert block_protection(volume) == ""


def test_compressed_memory_is_no_disk_unless_it_has_one_behind_it(tmp_path: Path) -> None:
    zram = tmp_path / "zram0"
    zram.mkdir()
    assert block_protection(zram) == "in memory"
    (zram / "backing_dev").write_text("none\n")
    assert block_protection(zram) == "in memory"
    (zram / "backing_dev").write_text("/dev/sda3\n")
    assert block_protection(zram) == ""


def test_the_clock_is_judged_by_the_kernel_and_by_the_daemon() -> None:
    assert judge_clock(synchronised=True, health=None).status == "ok"
    assert judge_clock(synchronised=True, health=health("ok")).status == "ok"
    assert judge_clock(synchronised=False, health=health("ok")).status == "warning"
    assert judge_clock(synchronised=False, health=health("in-doubt")).status == "failure"


@pytest.mark.parametrize(
    ("check", "file", "text", "status"),
    [
        ("memory-lock", "status", "VmLck:\t  290000 kB\n", "ok"),
        ("memory-lock", "status", "VmLck:\t       0 kB\n", "warning"),
        ("core-dumps", "limits", "Max core file size        0                    0                    bytes\n", "ok"),
        (
            "core-dumps",
            "limits",
            "Max core file size        0                    unlimited            bytes\n",
            "failure",
        ),
        ("open-files", "limits", "Max open files            65536                65536                files\n", "ok"),
        (
            "open-files",
            "limits",
            "Max open files            1024                 1024                 files\n",
            "warning",
        ),
    ],
)
def test_the_process_is_judged_by_its_limits(
    place: Installation, proc: Path, check: str, file: str, text: str, status: str
) -> None:
    (proc / str(os.getpid()) / file).write_text(text)
    finding = place.look(check, proc=proc)
    assert finding.status == status
    assert bool(finding.fixes) is (status != "ok")


def test_a_stopped_daemons_process_is_skipped(place: Installation) -> None:
    for check in ("memory-lock", "core-dumps", "open-files"):
        assert place.look(check).status == "skipped"
