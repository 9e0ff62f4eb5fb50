"""What the commands of `backup` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from secretsd.backup.create import Made
from secretsd.backup.manifest import Manifest
from secretsd.backup.placing import Journal
from secretsd.backup.proving import Proof
from secretsd.cli.options import Settings
from secretsd.cli.output import emit_json
from secretsd.cli.terminal import note, printable, styled

_NO_KEY: Final = (
    "master.key is not in it: keep that apart from the backups, sealed (secretsctl recovery export); without it no "
    "backup opens a secret"
)


def show_made(settings: Settings, made: Made) -> None:
    """Print where a backup is and how far it reaches, and what isn't in it."""
    if made.gap_before:
        note(f"lines are missing in the log before {made.manifest.checkpoint.first}; it is in the backup from there on")
    if made.not_recorded is not None:
        note(f"doctor will not know of it: {made.not_recorded}")
    note(_NO_KEY)
    if made.path is None:
        return
    if settings.as_json:
        emit_json({"file": str(made.path), **_about(made.manifest)})
        return
    at = made.manifest.checkpoint
    click.echo(
        printable(f"{made.path}: generation {at.generation}, the log up to line {at.sequence}. ")
        + f"Prove it: secretsctl backup verify {printable(str(made.path))}"
    )


def show_proof(settings: Settings, manifest: Manifest, proof: Proof) -> None:
    """Print what was proven of a backup, and what wasn't."""
    if settings.as_json:
        emit_json(
            {"ok": True, **_about(manifest), "lines": proof.lines, "key": proof.keys.current.keyid}
            | {"master_key": proof.vault is not None, "values": proof.values}
        )
        return
    at = manifest.checkpoint
    click.echo(
        f"{styled('ok', 'green')}: of {manifest.created_at}, generation {at.generation}, {proof.lines} lines of the "
        f"log up to {at.sequence}, signed by {proof.keys.current.keyid}"
    )
    if proof.vault is None:
        note("whose vault it is wasn't proven, and no value opened: that takes the master key (--master-key)")
    else:
        click.echo(f"the vault is this master key's, and all {proof.values} values in it open")


def show_restored(settings: Settings, journal: Journal, older: Sequence[str]) -> None:
    """Print what a restore came to, and what is next; `older` is what was accepted to be lost."""
    if settings.as_json:
        emit_json(
            {
                "created_at": journal.created_at,
                "epoch": journal.epoch,
                "generation": journal.generation,
                "sequence": journal.sequence,
                "log_kept": journal.log_kept,
                "aside": journal.aside,
            }
        )
        return
    log = "the audit log here goes on from it and was kept" if journal.log_kept else "the audit log is the backup's"
    click.echo(
        f"restored the backup of {journal.created_at}: epoch {journal.epoch}, generation {journal.generation}; {log}, "
        f"up to line {journal.sequence}. The old files are in {journal.aside}, beside the new ones."
    )
    if older:
        click.echo("Start the daemon now, and rotate what was rotated after the backup was made.")
    else:
        click.echo("Start the daemon now.")


def _about(manifest: Manifest) -> dict[str, Any]:
    at = manifest.checkpoint
    return {
        "created_at": manifest.created_at,
        "vault_id": manifest.vault_id,
        "epoch": at.epoch,
        "generation": at.generation,
        "first": at.first,
        "sequence": at.sequence,
        "head": at.head,
    }
