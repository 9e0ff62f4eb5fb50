"""The sealed backup of a .env: an age file whose content is the .env byte for byte, so `age -d` brings it back too."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from secretsd import files
from secretsd.cli.errors import Failed
from secretsd.cli.passphrase import ask_passphrase, read_passphrase
from secretsd.crypto import age
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import AgeError

MAX_SEALED_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True)
class SealTo:
    """Whom a backup is sealed to, as the options say."""

    recipients: Sequence[str] = ()
    recipients_file: Path | None = None
    passphrase_file: Path | None = None

    def resolve(self) -> age.Recipients | Sensitive:
        """Return recipients or a passphrase, asking for one on a terminal. Raises UsageError, Failed."""
        if self.recipients or self.recipients_file is not None:
            if self.passphrase_file is not None:
                raise click.UsageError("a backup is sealed to recipients or under a passphrase, not both")
            lines = [*self.recipients, *_lines(self.recipients_file)]
            try:
                return age.recipients(lines)
            except AgeError as error:
                raise Failed(f"the backup can't be sealed: {error}") from None
        if self.passphrase_file is not None:
            return read_passphrase(self.passphrase_file)
        if not sys.stdin.isatty():
            raise click.UsageError(
                "to whom is the backup sealed? --recipient, --recipients-file or --passphrase-file says it"
            )
        return ask_passphrase("Passphrase of the backup", twice=True)

    def opening(self) -> str:
        """Return the options of restore-env that open such a backup, with a blank before; none where it asks."""
        if self.passphrase_file is not None:
            return f" --passphrase-file {shlex.quote(str(self.passphrase_file))}"
        return " --identity FILE" if self.recipients or self.recipients_file is not None else ""


def free_name(path: Path) -> Path:
    """Return `path`, or where something is there already the first of `path.2`, `path.3` … that is free."""
    number = 1
    candidate = path
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate


def write_backup(content: Sensitive, path: Path, to: age.Recipients | Sensitive) -> Path:
    """Seal `content` into a new file, mode 0600, and return where it is; no file is overwritten.

    One under a passphrase is opened again to see that it opens. Raises Failed.
    """
    try:
        sealed = age.seal(content, to)
        if isinstance(to, Sensitive) and age.open_sealed(sealed, to) != content:
            raise Failed("the backup doesn't open to what was sealed; nothing was done")
    except AgeError as error:
        raise Failed(f"the backup can't be sealed: {error}") from None
    target = free_name(path)
    try:
        files.save(target, sealed)
    except OSError as error:
        raise Failed(f"the backup {target} can't be written: {error.strerror}; nothing was done") from None
    return target


def open_backup(path: Path, identity: Path | None, passphrase_file: Path | None) -> Sensitive:
    """Return what a backup holds, asking for the passphrase on a terminal where none is given. Raises Failed."""
    sealed = _read(path)
    try:
        if identity is not None:
            return age.open_sealed(sealed, age.identities(_read(identity)))
        if passphrase_file is not None:
            return age.open_sealed(sealed, read_passphrase(passphrase_file))
        if age.takes_passphrase(sealed) and sys.stdin.isatty():
            return age.open_sealed(sealed, ask_passphrase(f"Passphrase of {path}", twice=False))
    except AgeError as error:
        raise Failed(f"{path}: {error}") from None
    if not age.is_age(sealed):
        raise Failed(f"{path} is no age file")
    needed = "--passphrase-file" if age.takes_passphrase(sealed) else "--identity"
    raise click.UsageError(f"what opens {path}? Give {needed}")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SEALED_BYTES + 1)
    except OSError as error:
        raise Failed(f"{path} can't be read: {error.strerror}") from None
    if len(data) > MAX_SEALED_BYTES:
        raise Failed(f"{path} is over 8 MiB; no backup of a .env is")
    return data


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise Failed(f"{path} can't be read as a list of recipients") from None
