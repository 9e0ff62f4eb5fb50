"""A value on its way in (standard input, a file, a prompt; never the command line) and out."""

from __future__ import annotations

import base64
import binascii
import sys
from pathlib import Path
from typing import IO, Final

import click

from secretsd import files
from secretsd.cli.errors import Failed, Unreachable
from secretsd.crypto.sensitive import Sensitive
from secretsd.model import MAX_VALUE_BYTES, SecretAnswer

_READ_MOST: Final = MAX_VALUE_BYTES + 2
"""The largest value and a newline: more than that is too much, and there is no need to read on."""


_EMPTY: Final = "the value is empty; a secret's value has at least one byte"


def read_value(file: Path | None, *, raw: bool, prompt: str = "Value", empty: str = _EMPTY) -> Sensitive:
    """Return the value that the operator gives.

    It comes from `file`, else (or where that is "-") from standard input; a terminal is asked twice, without echo.
    One newline at the end isn't part of it unless `raw`. Raises UsageError when it is over 64 KiB, or empty, with what
    `empty` says.
    """
    stdin = file is None or str(file) == "-"
    if stdin and sys.stdin.isatty():
        typed = click.prompt(prompt, hide_input=True, confirmation_prompt="Once more", err=True)
        return _checked(str(typed).encode("utf-8", "surrogateescape"), empty)
    if stdin:
        data = _read(sys.stdin.buffer)
    elif file is not None:
        try:
            with file.open("rb") as opened:
                data = _read(opened)
        except OSError as error:
            raise Failed(f"{file} can't be read: {error.strerror}") from None
    return _checked(data if raw else without_newline(data), empty)


def _read(stream: IO[bytes]) -> bytes:
    data = bytearray()
    while len(data) <= _READ_MOST and (chunk := stream.read(_READ_MOST + 1 - len(data))):
        data += chunk
    return bytes(data)


def without_newline(data: bytes) -> bytes:
    """Return `data` without one newline at its end; a carriage return before that belongs to it."""
    return data[:-1].removesuffix(b"\r") if data.endswith(b"\n") else data


def _checked(data: bytes, empty: str) -> Sensitive:
    if not data:
        raise click.UsageError(empty)
    if len(data) > MAX_VALUE_BYTES:
        raise click.UsageError("the value is too long; a secret's value has at most 64 KiB")
    return Sensitive(data)


def as_json(value: Sensitive) -> dict[str, str]:
    """Return `value`, with `encoding` where it isn't UTF-8 text, as the daemon takes it."""
    data = value.reveal()
    try:
        return {"value": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"value": base64.b64encode(data).decode("ascii"), "encoding": "base64"}


def from_answer(answer: SecretAnswer) -> Sensitive:
    """Return the bytes that the daemon gave. Raises Unreachable when they aren't what it says."""
    if answer.encoding == "utf-8":
        return Sensitive(answer.value.encode())
    try:
        return Sensitive(base64.b64decode(answer.value, validate=True))
    except (binascii.Error, ValueError):
        pass
    raise Unreachable("the answer isn't one of jarvis-secretsd: its value isn't base64")


def print_value(value: Sensitive) -> None:
    """Print the bytes as they are; a terminal gets a newline after them, and text only. Raises Failed."""
    data = value.reveal()
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Failed(
            "the value isn't text", hint="write it to a file with -o FILE, or see it as base64 with --json"
        ) from None
    click.echo(text)


def refuse_unfit(path: Path) -> None:
    """Raise Failed where a value is to be saved in the place of a link, such as /dev/stdout, or of a device."""
    reason = files.unfit(path)
    if reason is not None:
        raise Failed(f"{path} {reason}", hint="for standard output leave -o out")


def save_value(value: Sensitive, path: Path) -> None:
    """Make the bytes the content of `path`, mode 0600, replacing what was there at once. Raises Failed."""
    try:
        files.save(path, value.reveal())
    except files.NotSynced as error:
        raise Failed(f"{path} is written, but its folder can't be synced: {error.strerror}") from None
    except OSError as error:
        raise Failed(f"{path} can't be written: {error.strerror}") from None
