"""Whether a backup is whole and of one time, and whose it is (docs/backup.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secretsd_bus import KeyRing, SigningKey, VerifyKey, line_hash

from secretsd.audit.eventkeys import EventKeyFiles, EventKeys, PastKey, linked, private_keys_in
from secretsd.audit.reader import LogReader
from secretsd.audit.verifier import ChainBroken, verify_files
from secretsd.backup.manifest import LOG, PAST_KEYS, SIGN_KEY, VAULT
from secretsd.backup.unpack import Unpacked
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import BackupError, KeyFileError, SealError, VaultError
from secretsd.vault.position import Position, position_in
from secretsd.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found good. `vault` and `values` (how many were opened) only with the master key.

    `keys` are those that sign the log, as of its end.
    """

    position: Position
    keys: EventKeys
    lines: int
    vault: Vault | None
    values: int


def prove(
    unpacked: Unpacked,
    masters: Sequence[Sensitive],
    trusted: VerifyKey | None = None,
    progress: Callable[[int], None] | None = None,
) -> Proof:
    """Return what the backup proves.

    `masters` are what the master key may be, none where it isn't known. `trusted` is the key that the backup's log
    begins with, where one is known from elsewhere.

    Raises BackupError with the first fault.
    """
    candidates = _signing_keys(unpacked)
    unpacked.read.check(KeyRing([key.public for key in candidates]))
    lines, key = _chain(unpacked, candidates, trusted, progress)
    keys = EventKeys(key, _past(unpacked, key))
    position = _of_one_time(unpacked)
    if not masters:
        return Proof(position, keys, lines, None, 0)
    vault = _vault(unpacked, masters)
    return Proof(position, keys, lines, vault, _open_all(vault))


def _signing_keys(unpacked: Unpacked) -> list[SigningKey]:
    """Return the key in force, and one that its vault still has to introduce, where there is one."""
    try:
        return private_keys_in(unpacked.small[SIGN_KEY].reveal())
    except ValueError as error:
        raise BackupError(f"{SIGN_KEY} in the backup is no Ed25519 key") from error


def _past(unpacked: Unpacked, key: SigningKey) -> tuple[PastKey, ...]:
    """Return the keys before `key`; each has to have introduced the one after it."""
    try:
        past = EventKeyFiles.beside(unpacked.folder / LOG).load_past()
    except KeyFileError:
        raise BackupError(f"{PAST_KEYS} in the backup doesn't hold the signing keys of the past") from None
    if linked(key.public, past) != past:
        raise BackupError(f"{PAST_KEYS} in the backup names keys that the log's key doesn't follow from")
    return past


def _chain(
    unpacked: Unpacked,
    candidates: Sequence[SigningKey],
    trusted: VerifyKey | None,
    progress: Callable[[int], None] | None,
) -> tuple[int, SigningKey]:
    """Return how many lines there are, and which of the keys is in force behind the last."""
    at = unpacked.manifest.checkpoint
    try:
        report = verify_files([unpacked.log], trusted, progress)
    except ChainBroken as broken:
        raise BackupError(f"the log in the backup is broken at line {broken.line_number}: {broken.reason}") from broken
    except KeyFileError as error:
        raise BackupError(f"the backup holds no key to verify its log with: {error}") from error
    if report.torn is not None:
        raise BackupError("the log in the backup ends in the middle of a line")
    if report.last is None:
        if at.sequence:
            raise BackupError(f"the log in the backup is empty, and its manifest says that it reaches {at.sequence}")
        return 0, candidates[0]
    if (report.first, report.last, report.head) != (at.first, at.sequence, at.head):
        raise BackupError(
            f"the log in the backup goes from line {report.first} to {report.last}, and its manifest's checkpoint is "
            f"of lines {at.first} to {at.sequence}, or of another log"
        )
    key = next((one for one in candidates if report.key is not None and one.keyid == report.key.keyid), None)
    if key is None:
        raise BackupError(f"{SIGN_KEY} in the backup is not the key that the log ends with")
    return report.lines, key


def _of_one_time(unpacked: Unpacked) -> Position:
    """Compare vault.json, as it stands there, with the manifest and the log."""
    about, at = unpacked.manifest, unpacked.manifest.checkpoint
    try:
        position = position_in(unpacked.small[VAULT].reveal(), unpacked.folder / VAULT)
    except VaultError as error:
        raise BackupError(f"in the backup: {error}") from error
    mark = position.audit
    claimed = (about.vault_id, at.epoch, at.generation, at.log_id)
    if (position.vault_id, position.epoch, position.generation, mark.log_id) != claimed:
        raise BackupError(f"{VAULT} in the backup is not the one that its manifest tells of")
    if mark.sequence > at.sequence:
        raise BackupError(
            f"the log in the backup ends at line {at.sequence} and the vault in it knows {mark.sequence}: they are not "
            "of one time"
        )
    if mark.sequence and mark.sequence >= at.first:
        line = next(LogReader(unpacked.log).lines(mark.sequence - 1), None)
        if line is None or line_hash(line[1]) != mark.head:
            raise BackupError(
                f"line {mark.sequence} of the log in the backup is not the one that the vault in it knows"
            )
    return position


def _vault(unpacked: Unpacked, masters: Sequence[Sensitive]) -> Vault:
    try:
        return Vault.load(unpacked.folder / VAULT, masters)
    except VaultError:
        raise BackupError(
            f"{VAULT} in the backup fails its MAC under this master key: the backup is of another vault, or the master "
            "key was changed since; give the one that was in force then (--master-key, or `secretsctl recovery import`)"
        ) from None


def _open_all(vault: Vault) -> int:
    opened = 0
    for name, record in vault.document.secrets.items():
        for version in record.sealed:
            try:
                vault.open(name, version)
            except SealError as error:
                raise BackupError(f"version {version.version} of {name} in the backup doesn't open") from error
            opened += 1
    return opened
