"""key: the daemon's own keys, rotated while it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from secretsd.cli import material
from secretsd.cli.errors import Failed
from secretsd.cli.options import Commands, Settings, connection_options, reason_option
from secretsd.cli.output import emit_json
from secretsd.cli.session import Session, decoded
from secretsd.cli.terminal import note
from secretsd.model import KeyRotated

_EMPTY: Final = "the passphrase is empty: type one on a terminal, pipe one in, or name a file with --passphrase-file"
KINDS: Final = ("data", "signing", "master", "passphrase")
_DONE: Final = {
    "data": "every value is sealed under new data keys",
    "signing": "events are signed by the new key {keyid}; verifiers follow by the line that introduces it",
    "master": "every value is sealed under the new master key; make a new recovery file, and keep the old one as long "
    "as backups of its time",
    "passphrase": "master.key opens under the new passphrase",
}


@click.group(cls=Commands)
def key() -> None:
    """Rotate the daemon's own keys while it serves."""


@key.command
@click.argument("kind", type=click.Choice(KINDS), metavar="data|signing|master|passphrase")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="For `passphrase`: take the new one from FILE (`-`: standard input). Default: asked for on the terminal.",
)
@reason_option
@connection_options
@click.pass_obj
def rotate(settings: Settings, kind: str, passphrase_file: Path | None, reason: str | None) -> None:
    """Make a new key: of the values, of the events, the master key, or give that another passphrase.

    The daemon goes on serving, and an interrupted rotation is finished by its next start. It takes the right `admin`.

    data: the keys that values and vault.json are sealed with. signing: the key of the events and the audit log, which
    is introduced by a line that the old one signs. master: the key that the others come from, and they with it.
    passphrase: what master.key is wrapped under; the old one opens it too until the daemon is given the new one.
    """
    if passphrase_file is not None and kind != "passphrase":
        raise click.UsageError("--passphrase-file is for `key rotate passphrase`")
    body: dict[str, object] = {"key": kind}
    if kind == "passphrase":
        body["passphrase"] = _passphrase(passphrase_file)
    if reason is not None:
        body["reason"] = reason
    with Session.open(settings) as session:
        answer = session.change("POST", "/keys/rotate", body)
    if settings.as_json:
        emit_json(answer.json())
        return
    rotated = decoded(answer, KeyRotated)
    done = _DONE[kind].format(keyid=rotated.signing_keyid)
    click.echo(f"rotated {kind}, generation {rotated.generation}: {done}")
    if kind == "passphrase" and rotated.passphrase_pending:
        note(
            "the old passphrase opens it too, until the daemon is given the new one: put that where the daemon takes "
            "it from (SECRETSD_PASSPHRASE_FILE, or the systemd credential), then reload or restart the daemon"
        )


def _passphrase(file: Path | None) -> str:
    try:
        return material.read_value(file, raw=False, prompt="New passphrase", empty=_EMPTY).reveal().decode()
    except UnicodeDecodeError:
        raise Failed("a passphrase is UTF-8 text") from None
