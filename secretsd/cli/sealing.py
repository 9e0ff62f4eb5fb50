"""Whom an age file is sealed to, and what opens one: options that several commands take."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from secretsd import files
from secretsd.cli.errors import Failed
from secretsd.cli.options import EXISTING_FILE
from secretsd.cli.passphrase import ask_passphrase, read_passphrase
from secretsd.crypto import age
from secretsd.crypto.age import Identities, Recipients
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import AgeError

F = TypeVar("F", bound=Callable[..., Any])

_HEAD_BYTES: Final = 64

_SEALING: Final = (
    click.option(
        "--recipient",
        "recipients",
        multiple=True,
        metavar="AGE",
        help="Seal it to this age recipient or SSH public key; may be repeated, and any one of them opens it.",
    ),
    click.option(
        "--recipients-file", type=EXISTING_FILE, metavar="FILE", help="Seal it to the recipients in FILE, one a line."
    ),
    click.option(
        "--passphrase-file", type=EXISTING_FILE, metavar="FILE", help="Seal it under the passphrase in FILE (0600)."
    ),
)
_OPENING: Final = (
    click.option(
        "--identity",
        "identities",
        type=EXISTING_FILE,
        multiple=True,
        metavar="FILE",
        help="What opens it: what age-keygen wrote, or an SSH private key without a passphrase; may be repeated.",
    ),
    click.option("--passphrase-file", type=EXISTING_FILE, metavar="FILE", help="The passphrase that opens it (0600)."),
)


def sealing_options(function: F) -> F:
    """Take `recipients`, `recipients_file` and `passphrase_file`, for `seal_to`."""
    for option in reversed(_SEALING):
        function = option(function)
    return function


def opening_options(function: F) -> F:
    """Take `identities` and `passphrase_file`, for `open_with`."""
    for option in reversed(_OPENING):
        function = option(function)
    return function


def seal_to(
    recipients: Sequence[str], recipients_file: Path | None, passphrase_file: Path | None
) -> Recipients | Sensitive:
    """Return recipients or a passphrase, which is asked for on a terminal where neither is named.

    Raises UsageError, Failed.
    """
    if recipients or recipients_file is not None:
        if passphrase_file is not None:
            raise click.UsageError("it is sealed to recipients or under a passphrase, not both")
        try:
            return age.recipients([*recipients, *_lines(recipients_file)])
        except AgeError as error:
            raise Failed(str(error)) from None
    if passphrase_file is not None:
        return read_passphrase(passphrase_file)
    if not sys.stdin.isatty():
        raise click.UsageError("sealed to whom? --recipient, --recipients-file or --passphrase-file says it")
    return ask_passphrase("Passphrase to seal it under", twice=True)


def open_with(sealed: Path, identities: Sequence[Path], passphrase_file: Path | None) -> Identities | Sensitive:
    """Return what opens the age file `sealed`; its passphrase is asked for on a terminal. Raises UsageError, Failed."""
    if identities and passphrase_file is not None:
        raise click.UsageError("it opens with an identity or a passphrase, not both")
    if identities:
        try:
            return Identities(tuple(key for path in identities for key in age.identities(_private(path)).keys))
        except AgeError as error:
            raise Failed(str(error)) from None
    if passphrase_file is not None:
        return read_passphrase(passphrase_file)
    if _under_passphrase(sealed) and sys.stdin.isatty():
        return ask_passphrase(f"Passphrase of {sealed.name}", twice=False)
    raise click.UsageError("what opens it? --identity or --passphrase-file says it")


def _under_passphrase(sealed: Path) -> bool:
    try:
        with sealed.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise Failed(f"{sealed} can't be read: {error.strerror}") from None
    if not age.is_age(head):
        raise Failed(f"{sealed} is no age file: it is truncated, or another file than meant")
    return age.takes_passphrase(head)


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{path} can't be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None


def _private(path: Path) -> bytes:
    try:
        return files.read_private(path)
    except files.ReadableByOthers as error:
        raise Failed(str(error)) from None
    except OSError as error:
        raise Failed(f"{path} can't be read: {error.strerror}") from None
