"""import-env: a whole migration, from a .env file to secrets that are read back, with a way back."""

from __future__ import annotations

from pathlib import Path

import click

from secretsd.cli.moving import table
from secretsd.cli.moving.migration import Asked, Migration
from secretsd.cli.moving.plan import Choice
from secretsd.cli.moving.sealed import SealTo
from secretsd.cli.options import EXISTING_FILE, Settings, connection_options
from secretsd.cli.sealing import sealing_options
from secretsd.cli.session import Session


def _print_map(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(table.builtin_text(), nl=False)
        ctx.exit()


@click.command("import-env")
@click.argument("file", type=EXISTING_FILE)
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan, and do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask; on a terminal it is asked after the plan.")
@click.option(
    "--map",
    "map_file",
    type=EXISTING_FILE,
    metavar="FILE",
    help="The table that says what becomes of each variable, instead of the built-in one.",
)
@click.option(
    "--print-map",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_map,
    help="Print the built-in table, to start one's own from, and end.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    help="Take the variables (or secrets) that match, also what the table leaves, and no others; may be repeated.",
)
@click.option("--skip", multiple=True, metavar="GLOB", help="Leave these out; may be repeated.")
@click.option(
    "--require", multiple=True, metavar="NAME", help="Fail unless the file sets this variable; may be repeated."
)
@click.option("--prefix", default="", metavar="TEXT", help="Begin each secret's name with this.")
@click.option("--overwrite", is_flag=True, help="Give secrets whose value differs the one of the file.")
@click.option(
    "--expand/--no-expand",
    default=None,
    help="Replace ${NAME} in values by what the file says, or take it as it stands. One of the two is needed where a "
    "value to keep has one.",
)
@click.option(
    "--backup", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Seal the .env into FILE first."
)
@sealing_options
@click.option(
    "--history",
    "histories",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="Look for the values in the history of the git repository in DIR; may be repeated.",
)
@click.option(
    "--replacements",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what `git filter-repo --replace-text` needs to take the values found out of the history (0600).",
)
@click.option(
    "--replace", "replace_file", is_flag=True, help="Take what is in the vault out of the .env. Needs --backup."
)
@connection_options
@click.pass_obj
def import_env(
    settings: Settings,
    file: Path,
    map_file: Path | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    require: tuple[str, ...],
    prefix: str,
    backup: Path | None,
    recipients: tuple[str, ...],
    recipients_file: Path | None,
    passphrase_file: Path | None,
    histories: tuple[Path, ...],
    replacements: Path | None,
    *,
    dry_run: bool,
    yes: bool,
    overwrite: bool,
    expand: bool | None,
    replace_file: bool,
) -> None:
    """Move the secrets of a .env FILE into the vault.

    The file is read as python-dotenv reads it. A table says which variable becomes which secret, with its value or a
    new one, and what stays in the file. The plan comes first. Everything is imported in one commit or nothing is;
    what is in the vault already is left alone, so that it can be run again. Every value is read back and compared.
    Values are never shown.
    """
    sealing = SealTo(recipients, recipients_file, passphrase_file)
    if backup is None and sealing != SealTo():
        raise click.UsageError(
            "--recipient, --recipients-file and --passphrase-file are about the backup: --backup FILE"
        )
    if backup is None and replace_file:
        raise click.UsageError("--replace takes lines away: it needs a sealed copy of the file, --backup FILE")
    if replacements is not None and not histories:
        raise click.UsageError("--replacements is about what is found in a history: --history DIR")
    asked = Asked(
        choice=Choice(only, skip, prefix, expand, require),
        table=table.builtin() if map_file is None else table.read_table(map_file),
        dry_run=dry_run,
        yes=yes,
        overwrite=overwrite,
        backup=backup,
        sealing=sealing,
        histories=histories,
        replacements=replacements,
        replace=replace_file,
    )
    migration = Migration(file, asked, as_json=settings.as_json)
    with Session.open(settings) as session:
        migration.run(session)
    migration.report()
