"""Passphrases: from a private file, or asked for on a terminal; never from the command line."""

from __future__ import annotations

from pathlib import Path

import click

from secretsd import files
from secretsd.cli.errors import Failed
from secretsd.cli.material import without_newline
from secretsd.crypto.sensitive import Sensitive


def read_passphrase(path: Path) -> Sensitive:
    """Return the passphrase in a file of mode 0600, without one newline at its end. Raises Failed."""
    try:
        data = without_newline(files.read_private(path))
    except files.ReadableByOthers as error:
        raise Failed(str(error)) from None
    except OSError as error:
        raise Failed(f"{path} can't be read: {error.strerror}") from None
    if not data:
        raise Failed(f"{path} is empty; a passphrase isn't")
    return Sensitive(data)


def ask_passphrase(prompt: str, *, twice: bool) -> Sensitive:
    """Return the passphrase that is typed on the terminal, without echo."""
    typed = click.prompt(
        prompt, hide_input=True, confirmation_prompt="Once more" if twice else False, err=True, prompt_suffix=": "
    )
    return Sensitive(str(typed).encode("utf-8", "surrogateescape"))
