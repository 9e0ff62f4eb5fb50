"""The kind `command`: each step is a program of the operator's, which is handed the values on its standard input.

No shell, an environment with nothing of the daemon's, no open descriptors, a process group that ends with the step.
What the program says is used only where it fails, scrubbed of the values and cut short.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import os
import signal
import stat
from asyncio.subprocess import DEVNULL, PIPE, Process
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators.errors import Refused, Retryable
from secretsd.rotators.interface import Order, Rotator, RotatorConfig, SecretName
from secretsd.rotators.scrub import Needles

DONE: Final = 0
TEMPORARY: Final = 75
"""EX_TEMPFAIL of sysexits(3), as any other status that isn't REFUSED: it may work later."""
REFUSED: Final = frozenset({64, 65, 67, 69, 77, 78, 126, 127})
"""Of sysexits(3) those that no repetition changes: usage, data, no user, unavailable, no permission, configuration; and
those of shells for what can't be run."""
SAID_MOST: Final = 4096
PIPES_SECS: Final = 1.0
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PR_SET_PDEATHSIG: Final = 1
_STANDARD_ERROR: Final = 2
_LIBC: Final = ctypes.CDLL(None)

Step = Literal["set", "test", "rollback", "finish"]
Variable = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z",
        description="a variable's name (letters, digits, underscore; no digit first; at most 64)",
    ),
]


class CommandConfig(RotatorConfig, frozen=True):
    """What to run, and what else it is given."""

    program: Annotated[list[Annotated[str, Meta(max_length=4096)]], Meta(min_length=1, max_length=64)]
    secrets: dict[Variable, SecretName] = msgspec.field(default_factory=dict)
    environment: dict[Variable, str] = msgspec.field(default_factory=dict)
    finish: bool = False

    def __post_init__(self) -> None:
        path = self.program[0]
        if not path.startswith("/") or os.path.normpath(path) != path:
            raise ValueError("program: a list that begins with an absolute path without . and .. in it")
        if any("\0" in text for text in (*self.program, *self.environment.values())):
            raise ValueError("program, environment: no NUL can be in an argument or a variable")

    def reads(self) -> tuple[str, ...]:
        """Return the secrets that the program is given besides."""
        return tuple(self.secrets.values())


class Command(Rotator[CommandConfig]):
    """Runs the program once for each step."""

    config_type = CommandConfig

    async def set(self, order: Order) -> None:
        """Run it with the step `set`."""
        await self._run("set", order, new=order.new, old=order.old)

    async def test(self, order: Order) -> None:
        """Run it with the step `test`."""
        await self._run("test", order, new=order.new, old=order.old)

    async def rollback(self, order: Order) -> None:
        """Run it with the step `rollback`, whose `new` is the old value: the one to take."""
        await self._run("rollback", order, new=order.old, old=order.new)

    async def finish(self, order: Order) -> None:
        """Run it with the step `finish`."""
        await self._run("finish", order, new=order.new, old=order.old)

    def finishes(self, *, urgent: bool) -> bool:
        """Tell whether the settings ask for that step."""
        del urgent
        return self.config.finish

    async def _run(self, step: Step, order: Order, *, new: Sensitive, old: Sensitive) -> None:
        values = [new, old]
        read = {}
        for member, name in self.config.secrets.items():
            value = await order.read(name)
            values.append(value)
            read[member] = value
        document = {
            "step": step,
            "token": order.token,
            "name": order.name,
            "version": order.version,
            "new": _text(new),
            "old": _text(old),
            "secrets": {member: _text(value) for member, value in read.items()},
        }
        check_program(Path(self.config.program[0]))
        needles = Needles(values)
        # So much more than is told, since what is cut in the middle couldn't be found any more.
        keep = SAID_MOST + needles.longest
        status, said = await _ended(self.config, msgspec.json.encode(document) + b"\n", keep)
        if status == DONE:
            return
        words = " ".join(needles.struck_end(said, SAID_MOST).decode("utf-8", "replace").split())
        reason = f"{Path(self.config.program[0]).name} {_how(status)}{': ' if words else ''}{words}"
        raise Refused(reason) if status in REFUSED else Retryable(reason)


def check_program(path: Path) -> None:
    """Raise Refused where others than root and the daemon's user could put another program there.

    The folders above count too: who may write one can exchange what is in it. One with the sticky bit lets nobody do
    that to what belongs to another.
    """
    ours = {0, os.geteuid()}
    try:
        real = path.resolve(strict=True)
        for place in (real, *real.parents):
            found = place.stat()
            loose = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
            if found.st_uid not in ours or (loose and not sticky):
                raise Refused(
                    f"{place} could be changed by others than root and the daemon's user: "
                    f"chown it to root and `chmod go-w {place}`"
                )
    except OSError as error:
        raise Refused(f"{path} can't be run: {error.strerror}") from error
    if not stat.S_ISREG(real.stat().st_mode) or not os.access(real, os.X_OK):
        raise Refused(f"{path} can't be run: it is no program, or not executable for the daemon's user")


async def _ended(config: CommandConfig, document: bytes, keep: int) -> tuple[int, bytes]:
    """Run the program to its end; return its status (minus the signal's number) and what it said on standard error.

    Of that the last `keep` bytes, which can hold values.
    """
    loop = asyncio.get_running_loop()
    starting = loop.create_task(
        asyncio.create_subprocess_exec(
            *config.program,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=PIPE,
            env={"PATH": PATH, "LANG": "C.UTF-8", **config.environment},
            cwd="/",
            start_new_session=True,
            preexec_fn=partial(_set_apart, os.getpid()),
        )
    )
    try:
        # Shielded, since asyncio waits for ever where the start itself is cancelled (its pipes are never connected).
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_end_late)
        raise
    except OSError as error:
        raise Refused(f"{config.program[0]} can't be run: {error.strerror}") from error
    handing, listening = loop.create_task(_hand_over(process, document)), loop.create_task(_listen(process, keep))
    try:
        await process.wait()
    finally:
        # Whatever it left behind holds values. Where the step is cancelled the program itself is among that.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        # What left the group may keep the pipes open, and isn't waited for.
        await asyncio.wait({handing, listening}, timeout=PIPES_SECS)
        handing.cancel()
        listening.cancel()
    assert process.returncode is not None  # noqa: S101 — it was waited for
    said = listening.result() if listening.done() and not listening.cancelled() else b""
    return process.returncode, said


def _end_late(starting: asyncio.Task[Process]) -> None:
    """End a program that has started after nobody waited for it any more; it was handed nothing yet."""
    if not starting.cancelled() and starting.exception() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(starting.result().pid, signal.SIGKILL)


def _set_apart(parent: int) -> None:
    """Let the kernel end this process with the daemon, be that killed, and keep the daemon's descriptors from it.

    A step that outlives its daemon could reach the other end after the next one has gone on. Not every event loop
    closes what the daemon itself inherited. Runs between fork and exec: nothing here takes a lock.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(TEMPORARY)
    try:
        held = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 — no objects are needed here
    except OSError:
        held = list(range(os.sysconf("SC_OPEN_MAX")))
    for descriptor in held:
        if descriptor > _STANDARD_ERROR:
            with contextlib.suppress(OSError):
                os.set_inheritable(descriptor, False)


async def _hand_over(process: Process, document: bytes) -> None:
    assert process.stdin is not None  # noqa: S101 — it was asked for
    # Who doesn't read it all needs no more of it.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(document)
        await process.stdin.drain()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.close()
        await process.stdin.wait_closed()


async def _listen(process: Process, keep: int) -> bytes:
    """Return the end of what it said. All of it is read, so that it never waits for room in the pipe."""
    assert process.stderr is not None  # noqa: S101 — it was asked for
    said = bytearray()
    while piece := await process.stderr.read(65_536):
        said += piece
        if len(said) > 2 * keep:
            del said[:-keep]
    return bytes(said[-keep:])


def _how(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _text(value: Sensitive) -> dict[str, str]:
    """Return a value as a member: text where it is that, else base64 (`encoding` says which)."""
    data = value.reveal()
    try:
        return {"encoding": "utf-8", "value": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "value": base64.b64encode(data).decode()}
