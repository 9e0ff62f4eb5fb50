"""The backups: whether there is a recent and proven one, and whether a key lies where they do."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from secretsd.backup import record
from secretsd.backup.record import LastBackup
from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, combined, failure, ok, plural, warning
from secretsd.cli.output import duration_text
from secretsd.crypto import masterkey
from secretsd.errors import KeyFileError, VaultError
from secretsd.vault import store
from secretsd.vault.position import position_in

STALE_DAYS: Final = 7
_DAY_SECS: Final = 86_400
_KEY_BYTES_MOST: Final = 65_536
_LOOKED_AT_MOST: Final = 2000
_MEMBERS_MOST: Final = 10_000
_ARCHIVES: Final = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


def last_backup(context: Context) -> Finding:
    """See that there is a backup of what the vault holds now, and that it was proven."""
    last = _last(context)
    again = f"secretsctl backup create DIR --recipient age1… --config {context.config_path}"
    if last is None:
        return warning("no backup was ever made with secretsctl, as far as is known here", again)
    findings = [one for one in (_stale(context, last, again), _unproven(last), _beside_the_vault(context, last)) if one]
    return combined(f"the last backup is of {last.created_at}, proven on {last.verified_at}", findings)


def _last(context: Context) -> LastBackup | None:
    return record.load(context.created)


def _stale(context: Context, last: LastBackup, fix: str) -> Finding | None:
    """Judge its age; an old one of what is still in the vault is none."""
    state = context.state
    try:
        now = position_in(store.read(state.vault), state.vault)
        age = context.now_ms() / 1000 - datetime.fromisoformat(last.created_at).timestamp()
    except (VaultError, ValueError):
        return None  # that is `state`'s to tell
    if age < STALE_DAYS * _DAY_SECS or (now.epoch, now.generation) == (last.epoch, last.generation):
        return None
    since = "the vault is of another epoch since"
    if now.epoch == last.epoch:
        since = f"{plural(now.generation - last.generation, 'change')} since are in none"
    return warning(f"the last backup is {duration_text(age)} old, and {since}", fix)


def _unproven(last: LastBackup) -> Finding | None:
    if last.verified_at is not None:
        return None
    where = "FILE" if last.file is None else last.file
    return warning(
        f"the last backup, of {last.created_at}, was never proven", f"secretsctl backup verify {where} --identity KEY"
    )


def _beside_the_vault(context: Context, last: LastBackup) -> Finding | None:
    """Judge where it lies; one that was taken elsewhere is as it should be."""
    if last.file is None:
        return None
    try:
        same = Path(last.file).stat().st_dev == context.state.vault.stat().st_dev
    except OSError:
        return None
    if not same:
        return None
    return warning(
        f"{last.file} is on the file system of the vault, and lost with it", "copy it to another machine or medium"
    )


def key_beside(context: Context) -> Finding:
    """See that no master key lies where the last backup does."""
    last = _last(context)
    if last is None or last.file is None:
        raise Skip("it isn't known where the backups are: none was made into a file with secretsctl backup create")
    folder = Path(last.file).parent
    if not folder.is_dir():
        raise Skip(f"{folder} isn't there now")
    findings = []
    for path in islice(_files_in(folder), _LOOKED_AT_MOST):
        finding = _judge(path, context)
        if finding is not None:
            findings.append(finding)
    return combined(f"no master key is in {folder}", findings) if findings else ok(f"no master key is in {folder}")


def _judge(path: Path, context: Context) -> Finding | None:
    """Judge one file in the folder of the backups; None where it is no key and holds none."""
    apart = f"mv {path} SOMEWHERE-ELSE   # or seal it: secretsctl recovery export"
    if path.name.endswith(_ARCHIVES):
        if not _holds_key_and_vault(path):
            return None
        return failure(f"{path} holds the master key and the vault: whoever finds it reads every secret", apart)
    if path.stat().st_size > _KEY_BYTES_MOST:
        return None
    try:
        wrapped = masterkey.is_wrapped(path.read_bytes(), path)
    except KeyFileError:
        return None
    if path.samefile(context.state.master_key):
        apart = "make backups into a folder that the master key isn't in"
    if wrapped:
        return warning(f"{path} is a master key beside the backups, guarded by its passphrase alone", apart)
    return failure(f"{path} is a master key beside the backups: whoever finds both reads every secret", apart)


def _files_in(folder: Path) -> Iterator[Path]:
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _holds_key_and_vault(path: Path) -> bool:
    """Tell whether an archive has both, going by the names in it; nothing is unpacked."""
    try:
        with tarfile.open(path) as archive:
            names = {Path(member.name).name for member in islice(archive, _MEMBERS_MOST)}
    except (tarfile.TarError, OSError, EOFError):
        return False
    return {"master.key", "vault.json"} <= names


CHECKS: Final = (
    Check("backup", "Is there a recent backup, and was it proven?", last_backup),
    Check("backup-key", "Does no master key lie with the backups?", key_beside),
)
