"""Where the passphrase of a wrapped master key comes from."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from secretsd import credentials, files
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import KeyFileError

FILE_VARIABLE: Final = "SECRETSD_PASSPHRASE_FILE"


def provided(environ: Mapping[str, str] = os.environ) -> Sensitive | None:
    """Return the passphrase in the file that SECRETSD_PASSPHRASE_FILE names, or in the systemd credential.

    One trailing newline is taken off. None when neither is there. Raises KeyFileError.
    """
    named = environ.get(FILE_VARIABLE)
    if named:
        return _read(Path(named), f"{FILE_VARIABLE} names {named}, which")
    handed_over = credentials.find(credentials.PASSPHRASE, environ)
    if handed_over is not None:
        return _read(handed_over, f"the credential {credentials.PASSPHRASE}")
    return None


def asked(path: Path) -> Sensitive | None:
    """Ask for the passphrase of the key file `path` on the terminal; None when there is none to ask on."""
    if not sys.stdin.isatty():
        return None
    return Sensitive(getpass.getpass(f"Passphrase of {path}: ").encode())


def _read(path: Path, what: str) -> Sensitive:
    try:
        data = files.read_at_once(path)
    except OSError as error:
        raise KeyFileError(f"{what} can't be read: {error.strerror}") from error
    passphrase = data.removesuffix(b"\n").removesuffix(b"\r")
    if not passphrase:
        raise KeyFileError(f"{what} is empty: write the passphrase into it")
    return Sensitive(passphrase)
