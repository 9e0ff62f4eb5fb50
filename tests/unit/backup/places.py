"""A vault with values and a log, made without a daemon, that can go on being changed; and a key to seal backups to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pyrage
from msgspec.structs import replace
from secretsd_bus import Chain, SigningKey, key_rotated, rfc3339

from secretsd.audit.eventkeys import EventKeyFiles
from secretsd.audit.linefile import LineFile
from secretsd.backup.create import Made, to_file
from secretsd.backup.unpack import Unpacked, unpack
from secretsd.crypto.age import Identities, Recipients
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon.firststart import StateFiles, create_state
from secretsd.daemon.opening import load_event_keys, load_master_keys, open_state
from secretsd.vault.document import OwedLine, SecretRecord, Wishes
from secretsd.vault.vault import Vault
from tests.unit.support.clock import START_MS
from tests.unit.support.core import configured

_IDENTITY = pyrage.x25519.Identity.generate()
OPENS = Identities((_IDENTITY,))
SEALS = Recipients((_IDENTITY.to_public(),))
NO_GRACE = 253402300799999


class Place:
    """An installation in `folder`; nothing runs. Each line of its log is a second later than the one before."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.config = configured(folder, bus="enabled = false")
        create_state(self.config, None)
        self.state = StateFiles(self.config)

    @property
    def masters(self) -> list[Sensitive]:
        return load_master_keys(self.state.master_key, None)

    @property
    def key(self) -> SigningKey:
        return load_event_keys(self.state).current

    @property
    def vault(self) -> Vault:
        return Vault.load(self.state.vault, self.masters)

    def value(self, name: str) -> str:
        vault = self.vault
        return vault.open(name, vault.document.secrets[name].current).reveal().decode()

    def commit(self, name: str, value: str, *, lines: bool = True) -> None:
        """Give `name` a value, as a daemon does; without `lines` it was killed before they were written."""
        opened = open_state(self.config)
        vault, document = opened.vault, opened.vault.document
        known = document.secrets.get(name)
        version = vault.seal(
            name, 1 if known is None else known.current.version + 1, Sensitive(value.encode()), "utf-8", 0
        )
        generation = document.generation + 1
        record = SecretRecord(
            type="generic",
            rotation="manual",
            rotation_ms=None,
            grace_ms=None,
            wishes=Wishes(),
            expires_at=NO_GRACE,
            status="active",
            announced=0,
            generation=generation,
            versions=(version,),
        )
        data = {"name": name, "epoch": document.epoch, "generation": generation}
        owed = OwedLine("secret.updated", name, data)
        following = replace(
            document,
            generation=generation,
            audit=replace(document.audit, sequence=opened.sequence, head=opened.head),
            secrets={**document.secrets, name: record},
            outbox=(owed,),
        )
        vault.write(vault.encode(following))
        if lines:
            self.say(owed.type, name, data)

    def read(self, count: int = 1) -> None:
        """Leave the lines of so many reads."""
        for _ in range(count):
            self.say("secret.read", "x", {"client": "admin"})

    def say(self, kind: str, subject: str | None, data: dict[str, object]) -> None:
        opened = open_state(self.config)
        chain = Chain(
            log_id=opened.vault.document.audit.log_id,
            node="pi",
            key=opened.key,
            sequence=opened.sequence,
            head=opened.head,
        )
        event = chain.append(kind, subject, data, rfc3339(START_MS + opened.sequence * 1000))
        LineFile(self.state.audit).append(event.raw + b"\n")

    def rotate_signing(self, *, until: Literal["ready", "owed", "said", "settled"] = "settled") -> SigningKey:
        """Rotate the signing key as a daemon does, or as far as one came that was killed; return the new key."""
        opened = open_state(self.config)
        new, document = SigningKey.generate(), opened.vault.document
        EventKeyFiles.beside(self.state.audit).add(opened.key, new)
        if until == "ready":
            return new
        generation = document.generation + 1
        data = {**key_rotated(new), "key": "signing", "epoch": document.epoch, "generation": generation}
        mark = replace(document.audit, sequence=opened.sequence, head=opened.head)
        owed = OwedLine("audit.key_rotated", None, data)
        following = replace(document, generation=generation, audit=mark, outbox=(owed,))
        opened.vault.write(opened.vault.encode(following))
        if until == "owed":
            return new
        chain = Chain(log_id=mark.log_id, node="pi", key=opened.key, sequence=mark.sequence, head=mark.head)
        event = chain.append(owed.type, None, data, rfc3339(START_MS + mark.sequence * 1000))
        LineFile(self.state.audit).append(event.raw + b"\n")
        if until == "settled":
            open_state(self.config)
        return new

    def rotate_vault(self, master: Sensitive | None = None, *, settled: bool = True) -> None:
        """Put the vault under a new data key, and under `master` where it is given."""
        opened = open_state(self.config)
        vault, document = opened.vault, opened.vault.document
        if master is not None:
            opened.master_file.add_key(master)
        keys = vault.keys.successor(master)
        following = replace(
            keys.taken_over(document, vault.keys),
            generation=document.generation + 1,
            audit=replace(document.audit, sequence=opened.sequence, head=opened.head),
            outbox=(),
        )
        vault.write(vault.encode(following, keys))
        if settled:
            opened.master_file.settle(keys.master)

    def rotate_log(self, name: str) -> Path:
        """Move the log away as logrotate does."""
        return self.state.audit.rename(self.state.audit.with_name(name))

    def back_up(self, name: str = "backup.age") -> Path:
        return self.make(name).path or Path()

    def make(self, name: str = "backup.age") -> Made:
        return to_file(self.config, self.folder / name, SEALS, overwrite=True)

    def files(self) -> dict[str, bytes]:
        """Every file of the state with its content; what comes and goes without meaning left out."""
        skipped = {".lock", ".age", ".backup"}
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.suffix not in skipped
        }


def unpacked(sealed: Path, folder: Path) -> Unpacked:
    folder.mkdir()
    return unpack(sealed, OPENS, folder)
