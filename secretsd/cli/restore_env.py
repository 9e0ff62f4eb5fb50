"""restore-env: the way back from import-env. It needs no daemon."""

from __future__ import annotations

from pathlib import Path

import click

from secretsd import files
from secretsd.cli.errors import Failed
from secretsd.cli.moving.sealed import free_name, open_backup
from secretsd.cli.options import EXISTING_FILE, Settings, insist, json_option
from secretsd.cli.output import emit_json
from secretsd.cli.terminal import note


@click.command("restore-env")
@click.argument("backup", type=EXISTING_FILE)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-i", "--identity", type=EXISTING_FILE, metavar="FILE", help="The age identity or SSH key that opens the backup."
)
@click.option("--passphrase-file", type=EXISTING_FILE, metavar="FILE", help="The passphrase that opens it (0600).")
@click.option("-y", "--yes", is_flag=True, help="Don't ask when FILE exists and is another.")
@json_option
@click.pass_obj
def restore_env(
    settings: Settings, backup: Path, file: Path, identity: Path | None, passphrase_file: Path | None, *, yes: bool
) -> None:
    """Bring a .env FILE back from its sealed BACKUP, byte for byte.

    What FILE is now is kept beside it as FILE.before. The secrets that were imported stay in the vault, unchanged.
    Needs no daemon; `age --decrypt BACKUP > FILE` does the same.
    """
    if identity is not None and passphrase_file is not None:
        raise click.UsageError("a backup opens with an identity or a passphrase, not both")
    target = _behind(file)
    content = open_backup(backup, identity, passphrase_file)
    kept: Path | None = None
    mode, owner, before = files.PRIVATE_FILE, None, files.PRIVATE_FILE
    try:
        if target.exists():
            status = target.stat()
            before, owner = status.st_mode & 0o777, (status.st_uid, status.st_gid)
            mode = _for_secrets(before)
            now = target.read_bytes()
            if now != content.reveal():
                insist(f"{file} exists and is another. Replace it (it is kept beside it)?", yes=yes)
                kept = free_name(target.with_name(f"{target.name}.before"))
                files.save(kept, now, owner=owner)
        files.save(target, content.reveal(), mode, owner=owner)
    except OSError as error:
        raise Failed(f"{file} can't be restored: {error.strerror}") from None
    if settings.as_json:
        emit_json({"file": str(target), "kept": None if kept is None else str(kept), "mode": f"{mode:04o}"})
    else:
        click.echo(f"restored {target}, mode {mode:04o}")
    if mode != before:
        note(f"its mode was {before:04o}, and it holds secrets again: nobody but its owner reads it now")
    if kept is not None:
        note(f"what it was is in {kept}")
    note(
        "the secrets that were imported stay in the vault, those newly generated too: services that read them from "
        "there go on. `secretsctl rm NAME` takes one out for good"
    )


def _behind(file: Path) -> Path:
    """Return the file itself where FILE is a link, as import-env does. Raises Failed where it is no file's place."""
    target = file.resolve()
    if file.is_symlink() and not target.exists():
        raise Failed(f"{file} is a link to nothing that is there: name the file itself")
    reason = files.unfit(target)
    if reason is not None:
        raise Failed(f"{file} {reason}")
    return target


def _for_secrets(mode: int) -> int:
    """Return the mode of a .env that holds secrets again: what is there already, unless all may read or write that."""
    return files.PRIVATE_FILE if mode & 0o007 else mode & 0o660
