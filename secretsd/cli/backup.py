"""backup: made while the daemon serves, proven, and put back (docs/backup.md)."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from secretsd_bus import rfc3339

from secretsd import files
from secretsd.backup import create as making
from secretsd.backup import record
from secretsd.backup import restore as restoring
from secretsd.backup.manifest import CONFIG, POLICY
from secretsd.backup.proving import prove
from secretsd.backup.unpack import unpack
from secretsd.cli.audit import pem_key
from secretsd.cli.backup_report import show_made, show_proof, show_restored
from secretsd.cli.errors import Failed
from secretsd.cli.options import EXISTING_FILE, Commands, Settings, config_option, insist, json_option
from secretsd.cli.output import counter, emit_json
from secretsd.cli.sealing import open_with, opening_options, seal_to, sealing_options
from secretsd.cli.terminal import note, printable
from secretsd.clock import SystemClock
from secretsd.config import Config, load
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import passphrase
from secretsd.daemon.firststart import StateFiles
from secretsd.daemon.opening import load_master_keys
from secretsd.errors import SecretsdError


@click.group(cls=Commands)
def backup() -> None:
    """Back the vault and its audit log up, and restore them."""


@backup.command
@click.argument("target", type=click.Path(path_type=Path), metavar="FILE")
@sealing_options
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@config_option()
@json_option
@click.pass_obj
def create(
    settings: Settings,
    target: Path,
    recipients: tuple[str, ...],
    recipients_file: Path | None,
    passphrase_file: Path | None,
    config: Path,
    *,
    force: bool,
) -> None:
    """Make a backup in FILE while the daemon serves, sealed as an age file.

    A folder gets a file with node and time in its name; - is standard output. Run it as root or as the daemon's user.
    """
    streamed = str(target) == "-"
    if streamed and sys.stdout.isatty():
        raise click.UsageError("a backup is no text for a terminal: redirect standard output, or name a file")
    to = seal_to(recipients, recipients_file, passphrase_file)
    with _failing(), counter("reading the log") as count:
        loaded = load(config)
        if streamed:
            made = making.to_stream(loaded, sys.stdout.buffer, to, count)
        else:
            made = making.to_file(loaded, target, to, overwrite=force, progress=count)
    show_made(settings, made)


@backup.command
@click.argument("file", type=EXISTING_FILE, metavar="FILE")
@opening_options
@click.option(
    "--master-key",
    type=EXISTING_FILE,
    metavar="FILE",
    help="The master key of the vault in it. Default: the one that the configuration names, where it is there.",
)
@click.option("--pubkey", type=EXISTING_FILE, metavar="PEM", help="The key that the log begins with, kept elsewhere.")
@config_option()
@json_option
@click.pass_obj
def verify(
    settings: Settings,
    file: Path,
    identities: tuple[Path, ...],
    passphrase_file: Path | None,
    master_key: Path | None,
    pubkey: Path | None,
    config: Path,
) -> None:
    """Prove a backup: hashes, signatures, the log's chain, vault and log of one time; with the master key every value.

    The first fault is named, and the exit status is 1. Nothing is changed.
    """
    using = open_with(file, identities, passphrase_file)
    with _failing():
        loaded = _loaded(config)
        masters = _masters(master_key, loaded)
        trusted = None if pubkey is None else pem_key(pubkey)
        with tempfile.TemporaryDirectory(prefix="secretsd-verify-") as folder, counter("verifying the log") as count:
            unpacked = unpack(file, using, Path(folder))
            proof = prove(unpacked, masters, trusted, count)
    if loaded is not None and masters:
        with contextlib.suppress(OSError):
            record.note_verified(StateFiles(loaded), unpacked.manifest, rfc3339(SystemClock().now_ms()))
    show_proof(settings, unpacked.manifest, proof)


@backup.command
@click.argument("file", type=EXISTING_FILE, metavar="[FILE]", required=False)
@opening_options
@click.option(
    "--accept-older",
    is_flag=True,
    help="Restore it although it is older than what is known here, or may be: what came after it is lost.",
)
@click.option("--resume", is_flag=True, help="Go on with a restore that was interrupted.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@config_option()
@json_option
@click.pass_obj
def restore(
    settings: Settings,
    file: Path | None,
    identities: tuple[Path, ...],
    passphrase_file: Path | None,
    config: Path,
    *,
    accept_older: bool,
    resume: bool,
    yes: bool,
) -> None:
    """Put a backup in place of what is here, with the daemon stopped.

    It is proven first. The old files are moved aside, never deleted; an audit log that goes on from the backup's is
    kept. A new epoch begins, so that every client asks anew. master.key has to be there already.
    """
    if (file is None) is not resume:
        raise click.UsageError("name the backup, or give --resume to go on with a restore that was interrupted")
    if file is None:
        with _failing():
            journal = restoring.resume(load(config))
        show_restored(settings, journal, ())
        return
    using = open_with(file, identities, passphrase_file)
    if accept_older:
        insist("Give up what came after this backup?", yes=yes)
    with _failing(), counter("verifying the log") as count:
        done = restoring.restore(load(config), file, using, accept_older=accept_older, progress=count)
    show_restored(settings, done.journal, done.older)
    if not done.broker_asked:
        note(
            "the broker could not be asked what it remembers: should the daemon refuse its checkpoint, run `secretsctl "
            "vault accept-rollback` while the broker runs"
        )


@backup.command("settings")
@click.argument("file", type=EXISTING_FILE, metavar="FILE")
@opening_options
@click.option(
    "--to",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Where config.toml and policy.yaml are written; what exists there is not replaced.",
)
@json_option
@click.pass_obj
def take_settings(
    settings: Settings, file: Path, identities: tuple[Path, ...], passphrase_file: Path | None, folder: Path
) -> None:
    """Take config.toml and policy.yaml out of a backup, to look at.

    They are as the backup has them: nothing proves that they are yours, so read them before they are put in place.
    """
    using = open_with(file, identities, passphrase_file)
    with _failing(), tempfile.TemporaryDirectory(prefix="secretsd-settings-") as scratch:
        unpacked = unpack(file, using, Path(scratch))
        found = {name: data for name in (CONFIG, POLICY) if (data := unpacked.bytes_of(name)) is not None}
        for name in found:
            if os.path.lexists(folder / name):
                raise Failed(f"{folder / name} exists: nothing was written")
        for name, data in found.items():
            files.save(folder / name, data)
    written = [str(folder / name) for name in found]
    if settings.as_json:
        emit_json({"files": written})
    else:
        click.echo("\n".join(map(printable, written)))


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """Make a refusal of every error that has a reason."""
    try:
        yield
    except SecretsdError as error:
        raise Failed(str(error)) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise Failed(f"{where}{error.strerror or type(error).__name__}") from None


def _loaded(config: Path) -> Config | None:
    """Return the configuration where there is one: a backup is proven on any machine. Raises ConfigError."""
    return load(config) if config.exists() else None


def _masters(named: Path | None, config: Config | None) -> list[Sensitive]:
    path = named or (None if config is None else config.paths.master_key_path)
    if path is None or (named is None and not path.exists()):
        return []
    return load_master_keys(path, passphrase.provided())
