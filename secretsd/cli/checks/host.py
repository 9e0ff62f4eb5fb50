"""The machine under the daemon: swap, clock, and what the kernel lets the daemon's process do."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, combined, failure, ok, plural, warning
from secretsd.clock import kernel_synchronised
from secretsd.model import Health

SLAVES_DEEP: Final = 8


@dataclass(frozen=True, slots=True)
class Swap:
    """Where memory may be written to. `safe` is why nobody can read it there later, empty when somebody can."""

    place: str
    safe: str


def swap(context: Context) -> Finding:
    """See that what is swapped out can't be read off the disk."""
    try:
        text = (context.proc / "swaps").read_text()
    except FileNotFoundError:
        return ok("this kernel has no swap")
    return judge_swap(
        [
            Swap(place, _protection(place, context.sys))
            for place in (line.split()[0].encode().decode("unicode_escape") for line in text.splitlines()[1:] if line)
        ]
    )


def judge_swap(swaps: Sequence[Swap]) -> Finding:
    """Judge all swap that is in use."""
    if not swaps:
        return ok("no swap")
    findings = [
        warning(
            f"swap on {one.place} is not encrypted: what a process had in memory can be read there later",
            f"swapoff {one.place}",
            "or encrypt it: in /etc/crypttab `swap DEVICE /dev/urandom swap`, in /etc/fstab `/dev/mapper/swap`",
        )
        for one in swaps
        if not one.safe
    ]
    return combined(f"swap on {', '.join(f'{one.place} ({one.safe})' for one in swaps)}", findings)


def _protection(place: str, sys: Path) -> str:
    """Return what keeps the swap at `place` from being read later; empty for nothing."""
    try:
        status = os.stat(place)  # noqa: PTH116 — a device or a file, whichever the kernel named
    except OSError:
        return ""
    number = status.st_rdev or status.st_dev
    block = sys / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
    return block_protection(block.resolve())


def block_protection(block: Path, depth: int = 0) -> str:
    """Return what protects a block device, given its folder in /sys; it may lie on others."""
    if block.name.startswith("zram"):
        backing = _read(block / "backing_dev")
        return "in memory" if backing in {"", "none"} else ""
    if _read(block / "dm" / "uuid").startswith("CRYPT-"):
        return "encrypted"
    below = sorted((block / "slaves").iterdir()) if (block / "slaves").is_dir() and depth < SLAVES_DEEP else []
    kinds = {block_protection(one.resolve(), depth + 1) for one in below}
    return "encrypted" if kinds == {"encrypted"} else ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def clock(context: Context) -> Finding:
    """See that the clock is right: what is scheduled depends on it."""
    health = context.health_or_trouble
    return judge_clock(synchronised=kernel_synchronised(), health=health if isinstance(health, Health) else None)


def judge_clock(*, synchronised: bool, health: Health | None) -> Finding:
    """Judge what the kernel and a running daemon say of the clock."""
    fix = "timedatectl set-ntp true   # or start chronyd; `timedatectl` shows whether it helps"
    if health is not None and health.clock == "in-doubt":
        return failure("the daemon doubts the clock, so nothing scheduled happens", fix)
    if not synchronised:
        return warning("the kernel doesn't call its clock synchronised", fix)
    return ok("the kernel calls its clock synchronised")


def _of_process(context: Context, file: str) -> str:
    if context.holder is None:
        raise Skip("the daemon doesn't run here, or this user can't see its process")
    try:
        return (context.proc / str(context.holder) / file).read_text()
    except OSError as error:
        raise Skip(f"process {context.holder} can't be looked at: {error.strerror}") from None


def memory_lock(context: Context) -> Finding:
    """See that the daemon's memory is kept out of swap."""
    found = re.search(r"^VmLck:\s+([0-9]+) kB", _of_process(context, "status"), re.MULTILINE)
    locked = 0 if found is None else int(found[1])
    if locked > 0:
        return ok(f"{locked // 1024:,} MiB of the daemon's memory are locked")
    return warning(
        "the daemon's memory is not locked: it may be swapped out",
        "systemctl edit jarvis-secretsd   # [Service] LimitMEMLOCK=infinity, then restart",
    )


def core_dumps(context: Context) -> Finding:
    """See that a crash of the daemon writes no memory to the disk."""
    found = re.search(r"^Max core file size\s+(\S+)\s+(\S+)", _of_process(context, "limits"), re.MULTILINE)
    if found is not None and found[1] == "0" and found[2] == "0":
        return ok("the daemon writes no core dumps")
    return failure(
        "the daemon may write core dumps, and all secrets with them",
        "systemctl edit jarvis-secretsd   # [Service] LimitCORE=0, then restart",
    )


def open_files(context: Context) -> Finding:
    """See that the daemon may have enough connections."""
    found = re.search(r"^Max open files\s+(\S+)", _of_process(context, "limits"), re.MULTILINE)
    if found is None or not found[1].isdecimal():
        return ok("no limit of open files")
    limit = int(found[1])
    if limit >= 4096:
        return ok(f"{limit:,} open files are allowed")
    return warning(
        f"only {plural(limit, 'open file')} allowed; each connection is one",
        "systemctl edit jarvis-secretsd   # [Service] LimitNOFILE=65536, then restart",
    )


CHECKS: Final = (
    Check("swap", "Can nothing that was in memory be read off the swap?", swap),
    Check("clock", "Is the clock synchronised, and does the daemon trust it?", clock),
    Check("memory-lock", "Is the daemon's memory kept out of swap?", memory_lock),
    Check("core-dumps", "Does a crash leave no memory on the disk?", core_dumps),
    Check("open-files", "May the daemon have enough connections?", open_files),
)
