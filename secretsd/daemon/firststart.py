"""The first start: keys, vault and log where none of them exists; a refusal where only some are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from secretsd_bus import ZERO_HASH, SigningKey

from secretsd import files, policy
from secretsd.audit.eventkeys import PAST_NAME, PRIVATE_NAME, PUBLIC_NAME
from secretsd.audit.logfiles import find_files
from secretsd.config import Config
from secretsd.crypto import masterkey
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import StartupError, VaultError
from secretsd.outbox import cursor
from secretsd.vault.keys import new_id
from secretsd.vault.vault import Vault, empty_document

_MARK_SUFFIX: Final = ".first-start"
_RESTORE_SUFFIX: Final = ".restore"
_BACKUP_SUFFIX: Final = ".backup"
_ROOM: Final = "make room on its disk"
STAGE_NAME: Final = ".restore"


class StateFiles:
    """Where the state lies."""

    def __init__(self, config: Config) -> None:
        self.vault = config.paths.vault_path
        self.master_key = config.paths.master_key_path
        self.audit = config.paths.audit_path
        self.sign_key = self.audit.with_name(PRIVATE_NAME)
        self.sign_pub = self.audit.with_name(PUBLIC_NAME)
        self.past_keys = self.audit.with_name(PAST_NAME)
        self.mark = self.vault.with_name(self.vault.name + _MARK_SUFFIX)
        self.cursor = self.vault.with_name(self.vault.name + cursor.SUFFIX)
        self.lock = self.vault.with_name(self.vault.name + ".lock")
        self.backup = self.vault.with_name(self.vault.name + _BACKUP_SUFFIX)
        self.restoring = self.vault.with_name(self.vault.name + _RESTORE_SUFFIX)
        self.vault_stage = self.vault.with_name(STAGE_NAME)
        self.audit_stage = self.audit.with_name(STAGE_NAME)

    def present(self) -> dict[Path, bool]:
        """Return, for each file that a vault can't do without, whether it is there; the log counts if any part is."""
        return {
            self.master_key: self.master_key.exists(),
            self.vault: self.vault.exists(),
            self.sign_key: self.sign_key.exists(),
            self.audit: bool(find_files(self.audit)),
        }

    def make_folders(self) -> None:
        """Make the folders, 0700. Raises StartupError."""
        for folder in {self.vault.parent, self.master_key.parent, self.audit.parent}:
            try:
                files.make_folder(folder)
            except OSError as error:
                way = _ROOM if files.is_full(error) else "make it yourself"
                raise StartupError(f"can't make the folder {folder}: {error.strerror}; {way}") from error


def refuse_unfinished_restore(state: StateFiles) -> None:
    """Return unless a restore of a backup was broken off halfway. Raises VaultError."""
    if state.restoring.exists():
        raise VaultError(
            f"a restore was interrupted ({state.restoring} is there), so the files are not of one time: run "
            "`secretsctl backup restore --resume`"
        )


def is_first_start(state: StateFiles) -> bool:
    """Tell whether keys, vault and log have to be made: none exists, or an earlier first start was interrupted.

    Raises VaultError that names what is missing when only some exist: an unmounted volume must not become an empty
    vault.
    """
    try:
        present = state.present()
    except OSError as error:
        raise VaultError(
            f"can't see whether {error.filename} is there: {error.strerror}; let the daemon's user into its folder"
        ) from error
    if not any(present.values()) or state.mark.exists():
        return True
    missing = [str(path) for path, there in present.items() if not there]
    if missing:
        there = ", ".join(str(path) for path, is_there in present.items() if is_there)
        raise VaultError(
            f"{' and '.join(missing)} missing, but {there} exists: is a volume not mounted? "
            f"{_way_back(state)}; for a new vault move the others away"
        )
    return False


def _way_back(state: StateFiles) -> str:
    """Return the commands that bring back what is missing."""
    ways = []
    if not state.master_key.exists():
        ways.append("`secretsctl recovery import` brings the master key back")
    if not all(there for path, there in state.present().items() if path != state.master_key):
        ways.append("`secretsctl backup restore` the rest" if ways else "`secretsctl backup restore` brings it back")
    return ", ".join(ways)


def create_state(config: Config, passphrase: Sensitive | bytes | None) -> None:
    """Make master key, signing key, empty vault and empty log where they are missing; nothing is overwritten.

    A mark beside the vault says that this isn't finished; interrupted at any point, the next start completes it.
    The vault comes last: without it nothing can have been kept. Raises StartupError and its kin.
    """
    if isinstance(passphrase, bytes):
        passphrase = Sensitive(passphrase)
    state = StateFiles(config)
    state.make_folders()
    if not is_first_start(state):
        raise VaultError(f"{state.vault} exists already: nothing was made")
    sha256 = policy.load(config.security.rbac_policy_path, config).sha256
    try:
        files.replace(state.mark, b"")
        if not state.master_key.exists():
            files.replace(state.master_key, masterkey.encode(masterkey.generate(), passphrase))
        if not state.sign_key.exists():
            files.replace(state.sign_key, SigningKey.generate().to_pem())
        public = SigningKey.from_pem(files.read_regular(state.sign_key)).public
        files.replace(state.sign_pub, public.to_pem(), 0o644)
        if not find_files(state.audit):
            files.replace(state.audit, b"")
        if not state.vault.exists():
            master = masterkey.decode(files.read_regular(state.master_key), state.master_key, passphrase)
            document = empty_document(log_id=new_id(), head=ZERO_HASH, policy_sha256=sha256)
            cursor.begin(state.cursor, document.audit.log_id)
            files.replace(state.vault, Vault(state.vault, master, document).encode(document))
        state.mark.unlink()
        files.sync_folder(state.mark.parent)
    except OSError as error:
        way = _ROOM if files.is_full(error) else "make its folders writable for the daemon's user"
        raise StartupError(f"can't make the first state: {error.filename}: {error.strerror}; {way}") from error
