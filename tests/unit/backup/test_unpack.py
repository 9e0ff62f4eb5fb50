"""What a stranger may seal to us: named, and nothing of it is left."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pyrage
import pytest
from secretsd_bus import SigningKey

from secretsd.audit import signed
from secretsd.backup import archive, manifest
from secretsd.backup.archive import Member
from secretsd.backup.manifest import Checkpoint, Manifest, Part
from secretsd.backup.unpack import unpack
from secretsd.crypto import age, agestream
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import AgeError, BackupError
from tests.unit.backup.places import OPENS, SEALS, Place

KEY = SigningKey.generate()
SMALL = {"vault.json": b"v", "audit.sign.key": b"k", "audit.sign.pub": b"p"}


@dataclass
class Forged:
    """A backup as somebody makes it who knows nothing but the recipient."""

    content: dict[str, bytes] = field(default_factory=lambda: {**SMALL, "audit.jsonl": b"line\n"})
    said: dict[str, bytes] | None = None
    order: list[str] | None = None
    sizes: dict[str, int] = field(default_factory=dict)

    def sealed(self, path: Path) -> Path:
        said = self.content if self.said is None else self.said
        about = Manifest(
            format=1,
            created_at="2026-11-24T17:00:00.000Z",
            version="0.1.0",
            node="pi",
            vault_id="v",
            checkpoint=Checkpoint("e", 1, "l", 1, 1, "h"),
            files={
                name: Part(self.sizes.get(name, len(data)), hashlib.sha256(data).hexdigest())
                for name, data in said.items()
            },
        )
        whole = {"manifest.json": manifest.encode(about, KEY), **self.content}
        members = [Member(name, self.sizes.get(name, len(whole[name])), [whole[name]]) for name in self.order or whole]
        data = b"".join(_lenient(members))
        with path.open("wb") as file:
            agestream.seal(io.BytesIO(data), file, SEALS)
        return path


def _lenient(members: list[Member]) -> list[bytes]:
    parts = []
    try:
        parts.extend(archive.written(members, 1))
    except BackupError:
        parts.append(bytes(1024))
    return parts


def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def refused(forged: Forged, tmp_path: Path, match: str) -> None:
    sealed = forged.sealed(tmp_path / "forged.age")
    with pytest.raises(BackupError, match=match):
        unpack(sealed, OPENS, out(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forged.age", "out"]


def test_what_hashes_as_the_manifest_says_is_unpacked(tmp_path: Path) -> None:
    got = unpack(Forged().sealed(tmp_path / "b.age"), OPENS, out(tmp_path))
    assert got.log.read_bytes() == b"line\n"
    assert got.log.stat().st_mode & 0o777 == 0o600
    assert not (got.folder / "audit.sign.key").exists()


@pytest.mark.parametrize("name", ["../vault.json", "/etc/cron.d/x", "sub/vault.json", "master.key", "."])
def test_a_name_that_no_backup_has_is_refused(tmp_path: Path, name: str) -> None:
    forged = Forged(order=["manifest.json", *SMALL, name])
    forged.content[name] = b"x"
    forged.said = dict(SMALL) | {"audit.jsonl": b"line\n"}
    refused(forged, tmp_path, "which no backup has")


def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    forged = Forged(order=["manifest.json", "vault.json", "vault.json"])
    refused(forged, tmp_path, "vault.json twice, or not in its place")


def test_a_member_out_of_its_place_is_refused(tmp_path: Path) -> None:
    forged = Forged(order=["manifest.json", "audit.jsonl", "vault.json"])
    refused(forged, tmp_path, "vault.json twice, or not in its place")


def test_an_archive_without_a_manifest_is_refused(tmp_path: Path) -> None:
    refused(Forged(order=["vault.json"]), tmp_path, "doesn't begin with manifest.json")


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    sealed = tmp_path / "forged.age"
    with sealed.open("wb") as file:
        agestream.seal(io.BytesIO(bytes(1024)), file, SEALS)
    with pytest.raises(BackupError, match="archive is empty"):
        unpack(sealed, OPENS, out(tmp_path))


def test_a_missing_member_is_refused(tmp_path: Path) -> None:
    refused(Forged(order=["manifest.json", *SMALL]), tmp_path, "audit.jsonl missing in the archive")


def test_an_altered_member_is_refused(tmp_path: Path) -> None:
    said = {**SMALL, "audit.jsonl": b"lime\n"}
    refused(Forged(said=said), tmp_path, "audit.jsonl has another SHA-256")


def test_a_member_of_another_size_is_refused(tmp_path: Path) -> None:
    said = {**SMALL, "vault.json": b"longer", "audit.jsonl": b"line\n"}
    refused(Forged(said=said), tmp_path, "vault.json isn't what manifest.json says")


def test_a_member_larger_than_memory_is_refused_unread(tmp_path: Path) -> None:
    refused(Forged(sizes={"vault.json": 2**40}), tmp_path, "more than any backup's")


def test_a_log_larger_than_the_disk_is_refused_unread(tmp_path: Path) -> None:
    refused(Forged(sizes={"audit.jsonl": 2**50}), tmp_path, "make room")


class _Later(msgspec.Struct):
    format: int = 2


def test_a_manifest_of_another_format_is_refused_with_what_to_do() -> None:
    with pytest.raises(BackupError, match="format 2 and this secretsctl knows 1"):
        manifest.decode(signed.encode("backup", _Later(), KEY))


def test_a_truncated_backup_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path / "home")
    place.commit("x", "one")
    place.read(200)
    whole = place.back_up().read_bytes()
    cut = tmp_path / "cut.age"
    for kept in (len(whole) - 1, len(whole) // 2, 300):
        cut.write_bytes(whole[:kept])
        folder = tmp_path / str(kept)
        folder.mkdir()
        with pytest.raises((AgeError, BackupError)):
            unpack(cut, OPENS, folder)


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path) -> None:
    whole = Forged().sealed(tmp_path / "b.age").read_bytes()
    bad = tmp_path / "bad.age"
    for at in range(0, len(whole), 97):
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        folder = tmp_path / str(at)
        folder.mkdir()
        with pytest.raises((AgeError, BackupError)):
            unpack(bad, OPENS, folder)


def test_another_identity_and_a_passphrase_for_recipients_are_told_apart(tmp_path: Path) -> None:
    sealed = Forged().sealed(tmp_path / "b.age")
    stranger = age.identities(str(pyrage.x25519.Identity.generate()).encode())
    with pytest.raises(AgeError, match="the identity is another one"):
        unpack(sealed, stranger, out(tmp_path))
    with pytest.raises(AgeError, match="sealed to recipients"):
        unpack(sealed, Sensitive(b"word"), tmp_path / "out")


def test_a_file_that_is_no_age_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.age").write_bytes(b"tar, perhaps")
    with pytest.raises(AgeError, match="no age file"):
        unpack(tmp_path / "b.age", OPENS, out(tmp_path))
