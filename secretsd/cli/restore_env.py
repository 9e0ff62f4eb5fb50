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
    content = open_backup(backup, identity, passphrase_file)
    kept: Path | None = None
    try:
        target = file.resolve()
        mode, owner = files.PRIVATE_FILE, None
        if target.exists():
            status = target.stat()
            mode, owner = status.st_mode & 0o777, (status.st_uid, status.st_gid)
            now = target.read_bytes()
            if now != content.reveal():
                insist(f"{file} exists and is another. Replace it (it is kept beside it)?", yes=yes)
                kept = free_name(target.with_name(f"{target.name}.before"))
                files.replace(kept, now, files.PRIVATE_FILE, owner=owner)
        files.replace(target, content.reveal(), mode, owner=owner)
    except OSError as error:
        raise Failed(f"{file} can't be restored: {error.strerror}") from None
    if settings.as_json:
        emit_json({"file": str(target), "kept": None if kept is None else str(kept)})
    else:
        click.echo(f"restored {target}, mode {mode:04o}")
    if kept is not None:
        note(f"what it was is in {kept}")
    note(
        "the secrets that were imported stay in the vault, those newly generated too: services that read them from "
        "there go on. `secretsctl rm NAME` takes one out for good"
    )
