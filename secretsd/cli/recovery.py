"""recovery: the master key sealed to people, proven, and brought back."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from secretsd import files
from secretsd.cli import material
from secretsd.cli.errors import Failed
from secretsd.cli.options import EXISTING_FILE, Commands, Settings, config_option, json_option
from secretsd.cli.output import emit_json
from secretsd.cli.passphrase import ask_passphrase
from secretsd.cli.terminal import note
from secretsd.config import Config, load
from secretsd.crypto import age
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import passphrase, recoveryfile
from secretsd.daemon.collisions import refuse_collisions
from secretsd.daemon.recoveryfile import RecoveryKey
from secretsd.errors import SecretsdError

F = TypeVar("F", bound=Callable[..., Any])

_identity_option = click.option(
    "-i",
    "--identity",
    type=EXISTING_FILE,
    metavar="FILE",
    help="The age identity (or SSH private key) of one of the people whom the file is sealed to.",
)
_passphrase_option = click.option(
    "--passphrase-file",
    type=EXISTING_FILE,
    metavar="FILE",
    help="The file with the recovery file's passphrase. Default: asked for, or read from standard input.",
)


@click.group(cls=Commands)
def recovery() -> None:
    """Keep the master key safe elsewhere, and bring it back.

    A recovery file is an age file: `age --decrypt` opens it too. Whoever can open it can open the vault and each of its
    backups. The daemon isn't asked: run these as its user, where its files are. A wrapped master key is opened as the
    daemon does, with SECRETSD_PASSPHRASE_FILE or a prompt.
    """


@recovery.command
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE", help="Where to."
)
@click.option(
    "-r", "--recipient", "recipients", multiple=True, metavar="KEY", help="An age1… or SSH public key; may be repeated."
)
@click.option(
    "-R",
    "--recipients-file",
    "recipient_files",
    type=EXISTING_FILE,
    multiple=True,
    metavar="FILE",
    help="A file of such keys.",
)
@_passphrase_option
@config_option()
@json_option
@click.pass_obj
def export(
    settings: Settings,
    output: Path,
    recipients: tuple[str, ...],
    recipient_files: tuple[Path, ...],
    passphrase_file: Path | None,
    config: Path,
) -> None:
    """Seal the master key to people, any one of whom opens it, or under a passphrase.

    Nothing that exists is overwritten. Keep the file away from the vault and its backups, and prove it with `recovery
    drill`.
    """
    with _told():
        loaded = load(config)
        if recipients or recipient_files:
            if passphrase_file is not None:
                raise click.UsageError("a file is sealed to recipients or under a passphrase, not both")
            lines = [*recipients, *(line for path in recipient_files for line in path.read_text().splitlines())]
            exported = recoveryfile.export(loaded, age.recipients(lines))
        else:
            exported = recoveryfile.export(loaded, _passphrase(passphrase_file, twice=True))
        _write_new(output, exported.sealed)
        recoveryfile.note_export(loaded, exported)
    if settings.as_json:
        emit_json({"file": str(output), "key": exported.of})
        return
    click.echo(f"wrote {output}: the master key {exported.of}, sealed")
    if output.absolute().parent in {loaded.paths.vault_path.parent, loaded.paths.master_key_path.parent}:
        note("it lies beside the vault, where it is lost with it: move it elsewhere")
    note(f"prove it: secretsctl recovery drill {output}")


@recovery.command
@click.argument("file", type=EXISTING_FILE)
@_identity_option
@_passphrase_option
@click.option(
    "--vault",
    type=EXISTING_FILE,
    metavar="FILE",
    help="Try it on this vault.json, such as a backup's, instead of the live one.",
)
@config_option()
@json_option
@click.pass_obj
def drill(
    settings: Settings,
    file: Path,
    identity: Path | None,
    passphrase_file: Path | None,
    vault: Path | None,
    config: Path,
) -> None:
    """Prove that FILE would bring the vault back, without touching the live key.

    Opens it, derives the keys, checks the vault's MAC, opens every value and prints none. The daemon may run.
    """
    with _told():
        loaded = load(config)
        drilled = recoveryfile.drill(loaded, _unsealed(file, identity, passphrase_file), vault)
    if settings.as_json:
        emit_json(
            {
                "ok": True,
                "made_at": drilled.made_at,
                "generation": drilled.generation,
                "secrets": drilled.secrets,
                "values": drilled.values,
            }
        )
        return
    click.echo(
        f"ok: the key of {drilled.made_at} opens the vault of generation {drilled.generation}, all {drilled.values} "
        f"values of {drilled.secrets} secrets"
    )


@recovery.command("import")
@click.argument("file", type=EXISTING_FILE)
@_identity_option
@_passphrase_option
@click.option("--replace", is_flag=True, help="Also where master.key opens the vault, or its passphrase isn't known.")
@config_option()
@json_option
@click.pass_obj
def import_(
    settings: Settings, file: Path, identity: Path | None, passphrase_file: Path | None, config: Path, *, replace: bool
) -> None:
    """Bring the master key back from FILE. The daemon must be stopped.

    Only the vault's own key is taken; where the vault is lost too, any is, and `backup restore` proves it. A master.key
    that works is left alone without --replace; one that doesn't is kept beside it. The new one is wrapped under the
    passphrase that SECRETSD_PASSPHRASE_FILE names, plain where it names none.
    """
    with _told():
        loaded: Config = load(config)
        refuse_collisions(loaded)
        wrapped = passphrase.provided() is not None
        done = recoveryfile.bring_back(loaded, _unsealed(file, identity, passphrase_file), overwrite=replace)
    path = loaded.paths.master_key_path
    if settings.as_json:
        kept = None if done.aside is None else str(done.aside)
        emit_json({"file": str(path), "wrapped": wrapped, "kept": kept, "opens_vault": done.opens_vault})
        return
    proven = "it opens the vault" if done.opens_vault else "there is no vault here to try it on"
    click.echo(f"wrote {path}, {'under the passphrase of the daemon' if wrapped else 'not wrapped'}; {proven}")
    if done.aside is not None:
        note(f"what was there before is {done.aside}")
    if done.opens_vault:
        note("start the daemon; whoever may have had the old key makes a rotation due: secretsctl key rotate master")
    else:
        note("leave the daemon stopped, and bring the vault back: secretsctl backup restore FILE")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say what went wrong as a command does."""
    try:
        yield
    except SecretsdError as error:
        raise Failed(str(error)) from None
    except UnicodeDecodeError:
        raise Failed("the file of recipients is no text") from None
    except OSError as error:
        raise Failed(f"{error.filename or 'a file'}: {error.strerror or error}") from None


def _unsealed(file: Path, identity: Path | None, passphrase_file: Path | None) -> RecoveryKey:
    if identity is not None and passphrase_file is not None:
        raise click.UsageError("give an identity or a passphrase, not both")
    sealed = file.read_bytes()
    if identity is not None:
        return recoveryfile.unsealed(sealed, age.identities(identity.read_bytes()))
    if age.is_age(sealed) and not age.takes_passphrase(sealed):
        raise click.UsageError("the file is sealed to recipients: give the identity of one of them with --identity")
    return recoveryfile.unsealed(sealed, _passphrase(passphrase_file, twice=False))


def _passphrase(file: Path | None, *, twice: bool) -> Sensitive:
    """Return the passphrase in the file, else the one that is typed, or comes on standard input. Raises UsageError."""
    if file is None and sys.stdin.isatty():
        return ask_passphrase("Passphrase of the recovery file", twice=twice)
    data = material.without_newline(sys.stdin.buffer.read() if file is None else file.read_bytes())
    if not data:
        raise click.UsageError("the passphrase is empty: type one on a terminal, or name a file with --passphrase-file")
    return Sensitive(data)


def _write_new(path: Path, data: bytes) -> None:
    """Make a new file, 0600, durable, or none. Raises Failed where something is there already, OSError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, files.PRIVATE_FILE)
    except FileExistsError:
        raise Failed(f"{path} exists: nothing was written; name another file") from None
    try:
        try:
            files.write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        files.sync_folder(path.absolute().parent)
    except OSError as error:
        # Half a recovery file looks like one to whoever finds it, and would be in the way of the next attempt.
        path.unlink(missing_ok=True)
        raise Failed(f"{path} can't be written: {error.strerror}") from None
