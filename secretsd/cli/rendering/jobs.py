"""What is to be rendered where, and with which commands: from the command line, or from a file of such."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import tomli

from secretsd.cli.errors import Failed
from secretsd.cli.rendering.commands import PLACE, Order
from secretsd.cli.rendering.target import Access, Target, parse_mode, parse_owner
from secretsd.cli.rendering.template import BadTemplate, Template
from secretsd.config.misfits import reworded
from secretsd.config.reader import KINDS
from secretsd.model import parse_duration

MOST_BYTES: Final = 1024 * 1024


class BadJob(ValueError):
    """What was asked for makes no sense; the message says what to ask for instead."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One template as it is written down: the options of the command line are these."""

    file: str
    to: str
    mode: str = "0600"
    owner: str | None = None
    check: str | None = None
    reload: str | None = None
    shell: bool = False
    timeout: str = "30s"


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of templates."""

    template: tuple[Entry, ...]
    settle: str | None = None


@dataclass(frozen=True)
class Orders:
    """The commands around a file, and how long each may take (None: without end). What shares them goes together."""

    check: Order | None
    reload: Order | None
    timeout_secs: float | None


@dataclass(frozen=True)
class Job:
    """One template and its file."""

    path: Path
    target: Target
    orders: Orders

    def read(self) -> Template:
        """Return the template as it is now. Raises Failed."""
        return read_template(self.path)


def read_template(path: Path) -> Template:
    """Return the template in a file. Raises Failed."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise Failed(f"{path} is over 1 MiB; that is no template")
        return Template(content.decode(), str(path))
    except OSError as error:
        failed = Failed(f"{path} can't be read: {error.strerror}")
    except UnicodeDecodeError:
        failed = Failed(f"{path} isn't UTF-8 text")
    except BadTemplate as error:
        failed = Failed(str(error))
    raise failed


def job(entry: Entry) -> Job:
    """Return the entry as it is worked with. Raises BadJob, CannotFind, CannotStart."""
    if entry.reload is not None and PLACE in entry.reload:
        raise BadJob("{} is for the check; a reload comes when the file is in its place")
    try:
        access = Access(parse_mode(entry.mode), None if entry.owner is None else parse_owner(entry.owner))
        timeout = parse_duration(entry.timeout)
        orders = Orders(
            _order(entry.check, shell=entry.shell),
            _order(entry.reload, shell=entry.shell),
            None if timeout is None else timeout / 1000,
        )
    except ValueError as error:
        raise BadJob(str(error)) from None
    if _same(Path(entry.file), Path(entry.to)):
        raise BadJob(f"{entry.to} is the template itself, which would be gone: name another file to make of it")
    return Job(Path(entry.file), Target(Path(entry.to).absolute(), access), orders)


def _same(file: Path, to: Path) -> bool:
    """Tell whether the two are one file, whatever links lead there."""
    try:
        return file.samefile(to)
    except OSError:
        return False  # at least one isn't there, which is told when it is needed


def _order(text: str | None, *, shell: bool) -> Order | None:
    if text is None:
        return None
    order = Order(text, shell)
    order.find()
    return order


def read_list(path: Path) -> tuple[list[Job], str | None]:
    """Return the templates that a TOML file lists, and its `settle`. Relative paths begin at its folder.

    Raises BadJob, CannotFind, CannotStart.
    """
    try:
        given = tomli.loads(path.read_text())
        listed = msgspec.convert(given, _Listed, strict=True)
    except OSError as error:
        complaint = f"can't be read: {error.strerror}"
    except UnicodeDecodeError:
        complaint = "isn't UTF-8 text"
    except tomli.TOMLDecodeError as error:
        complaint = f"line {error.lineno}, column {error.colno}: not TOML: {error.msg}"
    except msgspec.ValidationError as error:
        complaint = _misfit(str(error), given)
    else:
        return _jobs(path, listed), listed.settle
    raise BadJob(f"{path}: {complaint}")


def _misfit(said: str, given: object) -> str:
    """Return what is wrong with the file, its place first; templates are counted from 1, as in other messages."""
    path, complaint = reworded(said, _Listed, given, KINDS)
    place = ".".join(path)
    if len(path) > 1 and path[0] == "template" and path[1].isdigit():
        place = ": ".join((f"template {int(path[1]) + 1}", *path[2:]))
    return f"{place}: {complaint}" if place else complaint


def _jobs(path: Path, listed: _Listed) -> list[Job]:
    if not listed.template:
        raise BadJob(f"{path}: no [[template]] is in it")
    jobs: list[Job] = []
    for number, entry in enumerate(listed.template, 1):
        placed = msgspec.structs.replace(entry, file=str(path.parent / entry.file), to=str(path.parent / entry.to))
        try:
            made = job(placed)
        except BadJob as error:
            raise BadJob(f"{path}, template {number}: {error}") from None
        if any(one.target.path == made.target.path for one in jobs):
            raise BadJob(f"{path}, template {number}: {made.target.path} is made by another one already")
        jobs.append(made)
    return jobs
