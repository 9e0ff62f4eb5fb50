"""Recovery files: the master key, sealed to people, and brought back (docs/keys.md). Blocks.

Made and used without the daemon: the master key never goes over HTTP.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from secretsd_bus import b64url_decode, b64url_encode, rfc3339

from secretsd import files
from secretsd.clock import SystemClock
from secretsd.config import Config
from secretsd.crypto import age, masterkey
from secretsd.crypto.derive import KEY_BYTES, derive
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import passphrase
from secretsd.daemon.firststart import StateFiles
from secretsd.daemon.opening import open_vault
from secretsd.errors import AgeError, KeyFileError, SealError, StartupError, VaultError
from secretsd.vault import store
from secretsd.vault.document import Codec, Document
from secretsd.vault.keys import VaultKeys
from secretsd.vault.store import Lock

RECORD_SUFFIX: Final = ".recovery"
REPLACED_INFIX: Final = ".replaced-"
"""Between the name of a master.key that was kept aside and its number."""
_CHECK_BYTES: Final = 9


class RecoveryKey(Struct, frozen=True, forbid_unknown_fields=True):
    """What is sealed in a recovery file."""

    format: Literal[1]
    kind: Literal["jarvis-secretsd-recovery"]
    vault_id: str
    key: str
    made_at: str

    def __repr__(self) -> str:
        return "RecoveryKey(redacted)"

    @property
    def master(self) -> Sensitive:
        """The master key. Raises ValueError when it is none."""
        key = b64url_decode(self.key)
        if len(key) != KEY_BYTES:
            raise ValueError("not 32 bytes")
        return Sensitive(key)


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """When recovery files were made and drilled, and of which master key: beside master.key, for `doctor`."""

    format: Literal[1] = 1
    exported_at: str | None = None
    exported_of: str | None = None
    drilled_at: str | None = None
    drilled_of: str | None = None


@dataclass(frozen=True, slots=True)
class Drilled:
    """What a recovery file opened."""

    made_at: str
    generation: int
    secrets: int
    values: int


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """Where the old master.key is kept, None where none had to be; whether there was a vault to try the new one on."""

    aside: Path | None
    opens_vault: bool


def key_check(master: Sensitive, vault_id: str) -> str:
    """Return 12 characters by which a master key is known again, and from which nothing of it can be worked out."""
    return b64url_encode(derive(master, "recovery-check", vault_id).reveal()[:_CHECK_BYTES])


def record_path(state: StateFiles) -> Path:
    """Return where the record lies."""
    return state.master_key.with_name(state.master_key.name + RECORD_SUFFIX)


def load_record(path: Path) -> Record:
    """Return the record, an empty one where there is none that can be read as one. Raises OSError."""
    try:
        return msgspec.json.decode(files.read_regular(path), type=Record)
    except FileNotFoundError:
        return Record()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Record()


@dataclass(frozen=True, slots=True)
class Exported:
    """A recovery file's bytes, and by what the key in it is known again."""

    sealed: bytes
    of: str


def export(config: Config, to: age.Recipients | Sensitive) -> Exported:
    """Return the master key of the vault sealed to people; it has opened the vault. Raises KeyFileError, VaultError."""
    vault, _ = open_vault(StateFiles(config), passphrase.provided())
    keys = vault.keys
    document = RecoveryKey(1, "jarvis-secretsd-recovery", keys.vault_id, b64url_encode(keys.master.reveal()), _now())
    sealed = age.seal(Sensitive(msgspec.json.encode(document)), to)
    return Exported(sealed, key_check(keys.master, keys.vault_id))


def note_export(config: Config, exported: Exported) -> None:
    """Write down that a recovery file was made, once it is where it belongs. Raises StartupError."""
    _note(StateFiles(config), exported_at=_now(), exported_of=exported.of)


def unsealed(sealed: bytes, using: age.Identities | Sensitive) -> RecoveryKey:
    """Return what a recovery file holds. Raises AgeError when it doesn't open, or is no recovery file."""
    content = age.open_sealed(sealed, using)
    try:
        found = msgspec.json.decode(content.reveal(), type=RecoveryKey)
        found.master.reveal()
    # Without `from`: the foreign messages may quote what was sealed.
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        raise AgeError("it opens, and holds no master key of jarvis-secretsd: is it another file?") from None
    return found


def drill(config: Config, recovery: RecoveryKey, vault: Path | None = None) -> Drilled:
    """Prove that the file's key opens the vault, and every value in it; nothing is printed, the live key not touched.

    `vault` is another vault.json than the configuration's, such as a backup's. Raises VaultError.
    """
    state = StateFiles(config)
    keys, document = _opened(state.vault if vault is None else vault, recovery)
    values = 0
    for name, record in document.secrets.items():
        for version in record.sealed:
            try:
                keys.open(name, version)
            except SealError as error:
                raise VaultError(
                    f"the key is the vault's, but version {version.version} of {name} doesn't open: {error}"
                ) from error
            values += 1
    if vault is None:
        _note(state, drilled_at=_now(), drilled_of=key_check(recovery.master, recovery.vault_id))
    return Drilled(recovery.made_at, document.generation, len(document.secrets), values)


def bring_back(config: Config, recovery: RecoveryKey, *, overwrite: bool) -> BroughtBack:
    """Make the file's key the content of master.key, under the passphrase that the daemon would be given.

    Only a key that opens the vault is taken. Where the vault is lost too any is: `backup restore`, which comes next,
    takes only its own. A master.key that works already stays, unless `overwrite`; one that doesn't is kept aside. What
    root makes here belongs to the vault's owner. Raises StartupError: VaultLocked while the daemon runs.
    """
    state = StateFiles(config)
    state.make_folders()
    lock = Lock(state.lock)
    try:
        there = state.vault.exists()
        if there:
            _opened(state.vault, recovery)
        reference = state.vault if there else state.master_key.parent
        files.give_to_owner_of(reference, state.lock)
        given = passphrase.provided()
        aside = None
        if state.master_key.exists():
            works = _works(state, given) if there else None
            if works is not False and not overwrite:
                raise KeyFileError(
                    f"{state.master_key} is there and {'opens the vault' if works else 'may open the vault'}: nothing "
                    "was changed. To replace it all the same, as where its passphrase is lost, give --replace"
                )
            aside = None if works else _set_aside(state.master_key)
        files.replace(state.master_key, masterkey.encode(recovery.master, given))
        files.give_to_owner_of(reference, state.master_key)
    except OSError as error:
        raise StartupError(f"nothing was brought back: {error}") from error
    finally:
        lock.release()
    return BroughtBack(aside, there)


def _opened(path: Path, recovery: RecoveryKey) -> tuple[VaultKeys, Document]:
    data = store.read(path)
    if Codec.preamble(data, path).vault_id != recovery.vault_id:
        raise VaultError(
            f"the recovery file is of another vault than {path}: look for the right file, or the right vault"
        )
    try:
        return VaultKeys.opening(data, path, recovery.master)
    except VaultError as error:
        raise VaultError(
            f"the key in the recovery file, made {recovery.made_at}, doesn't open {path}: the master key was rotated "
            "between the two, or the vault was altered. Take a recovery file and a vault of one time"
        ) from error


def _works(state: StateFiles, given: Sensitive | None) -> bool | None:
    """Tell whether master.key opens the vault; None where its passphrase isn't known."""
    try:
        data = files.read_private(state.master_key)
        wrapped = masterkey.is_wrapped(data, state.master_key)
    except (KeyFileError, files.ReadableByOthers):
        return None if state.master_key.stat().st_mode & 0o077 else False
    try:
        opened = masterkey.open_all(data, state.master_key, given)
        masters = [key.master for key in opened if key is not None]
    except KeyFileError:
        return None if wrapped else False
    content = store.read(state.vault)
    for master in masters:
        try:
            VaultKeys.opening(content, state.vault, master)
        except VaultError:
            continue
        return True
    return None if any(key is None for key in opened) else False


def _set_aside(path: Path) -> Path:
    """Give the file a second name, so that it is never gone. Raises OSError."""
    for number in range(1, 1000):
        aside = path.with_name(f"{path.name}{REPLACED_INFIX}{number}")
        try:
            os.link(path, aside)
        except FileExistsError:
            continue
        return aside
    raise OSError(f"too many files beside {path} are called so already")


def _note(state: StateFiles, **changes: str) -> None:
    path = record_path(state)
    try:
        record = replace(load_record(path), **changes)
        files.replace(path, msgspec.json.encode(record) + b"\n")
        files.give_to_owner_of(state.vault, path)
    except OSError as error:
        raise StartupError(f"it is done, but can't be noted in {path}: {error.strerror}") from error


def _now() -> str:
    return rfc3339(SystemClock().now_ms())
