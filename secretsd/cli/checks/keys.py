"""The daemon's own keys: whether they lie protected, whether a change is finished, whether they can be recovered."""

from __future__ import annotations

from typing import Final

from secretsd_bus import parse_time

from secretsd import files
from secretsd.audit.eventkeys import EventKeyFiles
from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, combined, failure, ok, warning
from secretsd.cli.output import duration_text
from secretsd.crypto import masterkey
from secretsd.daemon import passphrase
from secretsd.daemon.opening import open_vault
from secretsd.daemon.recoveryfile import Record, key_check, load_record, record_path
from secretsd.errors import KeyFileError, StartupError
from secretsd.model import DAY_MS

DRILL_DAYS: Final = 180
_EXPORT: Final = "secretsctl recovery export -o FILE -r AGE-RECIPIENT   # keep FILE away from the vault and its backups"
_DRILL: Final = "secretsctl recovery drill FILE"


def protected(context: Context) -> Finding:
    """See that the master key is under a passphrase, and that no change of a key is half done."""
    state = context.created
    try:
        stored = masterkey.wrappings(files.read_private(state.master_key), state.master_key)
        signing = EventKeyFiles.beside(state.audit).candidates()
    except files.ReadableByOthers:
        raise Skip(f"{state.master_key} is open to others: see `modes`") from None
    except FileNotFoundError as error:
        raise Skip(f"{error.filename} is missing: see `state`") from None
    except KeyFileError as error:
        return failure(str(error))
    findings = []
    if len(stored) > 1:
        findings.append(
            warning(
                f"{state.master_key} holds {len(stored)} keys: a rotation, or a new passphrase, is unfinished",
                "give the daemon the new passphrase if it was changed, then reload or restart it",
            )
        )
    if len(signing) > 1 and context.holder is None:
        findings.append(warning(f"{state.sign_key} holds two keys: a rotation is unfinished", "start the daemon"))
    if any(one.protection == "none" for one in stored):
        findings.append(
            warning(
                "the master key is not under a passphrase: whoever copies the disk, or a backup with it, has it",
                "secretsctl key rotate passphrase",
            )
        )
    return combined("the master key is under a passphrase, no change of a key is unfinished", findings)


def recovery(context: Context) -> Finding:
    """See that the master key can be brought back: a recovery file was made of it, and proven."""
    state = context.created
    path = record_path(state)
    if not path.exists():
        return warning(
            "no recovery file of the master key was ever made here: lost, it takes every secret along", _EXPORT
        )
    try:
        vault, _ = open_vault(state, passphrase.provided())
    except StartupError as error:
        raise Skip(f"the master key can't be looked at: {error}") from None
    return judge_recovery(load_record(path), key_check(vault.keys.master, vault.keys.vault_id), context.now_ms())


def judge_recovery(record: Record, key: str, now_ms: int) -> Finding:
    """Judge the record against the master key of now."""
    if key not in {record.exported_of, record.drilled_of}:
        return warning("the master key was rotated since the last recovery file was made", _EXPORT)
    if record.drilled_of != key or record.drilled_at is None:
        return warning("the recovery file was never proven", _DRILL)
    try:
        age_ms = now_ms - parse_time(record.drilled_at)
    except ValueError:
        return warning("when the recovery file was proven can't be read", _DRILL)
    since = duration_text(max(0, age_ms) / 1000)
    if age_ms > DRILL_DAYS * DAY_MS:
        return warning(f"the recovery file was last proven {since} ago", _DRILL)
    return ok(f"the recovery file was proven {since} ago")


CHECKS: Final = (
    Check("keys", "Is the master key protected, and no change of a key half done?", protected),
    Check("recovery", "Can the master key be brought back: was a recovery file made, and proven?", recovery),
)
