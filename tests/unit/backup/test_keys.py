"""Backups over rotations of the daemon's own keys, finished or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from secretsd_bus import SigningKey, VerifyKey

from secretsd.audit.eventkeys import EventKeyFiles, EventKeys, past_file
from secretsd.audit.logfiles import find_files
from secretsd.audit.verifier import verify_files
from secretsd.backup import restore
from secretsd.backup.manifest import PAST_KEYS, SIGN_KEY, SIGN_PUB
from secretsd.backup.proving import prove
from secretsd.crypto import masterkey
from secretsd.daemon.opening import open_state
from secretsd.errors import BackupError
from tests.unit.backup.places import OPENS, Place, unpacked


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "home")
    place.commit("x", "one")
    place.read(2)
    return place


def lose_all_but_master(place: Place) -> None:
    for path in list(place.state.vault.parent.iterdir()):
        if path.is_file() and path.name.startswith(("vault.json", "audit.")):
            path.unlink()


def serves(place: Place, value: str, first: VerifyKey) -> None:
    """Start as the daemon does; the log verifies from the key that it begins with."""
    open_state(place.config)
    assert place.value("x") == value
    place.say("daemon.started", None, {"epoch": place.vault.document.epoch, "generation": 0})
    verify_files(find_files(place.state.audit), first)
    verify_files(find_files(place.state.audit), None)


def test_backups_of_before_and_after_rotations_are_proven_and_restored(place: Place, tmp_path: Path) -> None:
    first = place.key.public
    before = place.back_up("before.age")
    place.rotate_signing()
    place.rotate_vault()
    place.rotate_signing()
    place.commit("x", "two")
    after = place.back_up("after.age")
    for name, sealed, past in (("b", before, 0), ("a", after, 2)):
        proof = prove(unpacked(sealed, tmp_path / name), place.masters, first)
        assert (proof.values, len(proof.keys.past)) == (1, past)
    lose_all_but_master(place)
    restore.restore(place.config, after, OPENS, accept_older=True)
    assert [one.last_sequence for one in open_state(place.config).event_keys.past] == [5, 4]
    serves(place, "two", first)


def test_a_backup_of_before_a_rotation_is_restored_onto_the_log_that_went_on_under_the_new_key(place: Place) -> None:
    first = place.key.public
    before = place.back_up()
    new = place.rotate_signing()
    place.read(2)
    done = restore.restore(place.config, before, OPENS, accept_older=True)
    assert done.journal.log_kept
    assert place.key.keyid == new.keyid
    serves(place, "one", first)


def test_past_keys_that_are_here_do_not_stay_beside_a_log_of_before_their_rotation(place: Place) -> None:
    first = place.key
    before = place.back_up()
    place.rotate_signing()
    place.state.audit.unlink()
    restore.restore(place.config, before, OPENS, accept_older=True)
    assert not place.state.past_keys.exists()
    assert place.key.keyid == first.keyid
    serves(place, "one", first.public)


@pytest.mark.parametrize("until", ["ready", "owed", "said"])
def test_a_backup_in_the_middle_of_a_rotation_goes_on_after_it_was_restored(
    place: Place, tmp_path: Path, until: str
) -> None:
    first = place.key.public
    new = place.rotate_signing(until=until)  # type: ignore[arg-type]
    sealed = place.back_up()
    proof = prove(unpacked(sealed, tmp_path / "out"), place.masters, first)
    assert (proof.keys.current.keyid == new.keyid) is (until == "said")
    lose_all_but_master(place)
    restore.restore(place.config, sealed, OPENS, accept_older=True)
    opened = open_state(place.config)
    assert opened.successor is None if until == "said" else opened.successor is not None
    if until == "owed":
        assert opened.owed is not None
        assert opened.owed.outbox[0].data["jwk"]["kid"] == new.keyid == opened.successor.keyid  # type: ignore[union-attr]
        return  # that line comes first, and is the running daemon's to write
    serves(place, "one", first)


def test_a_master_key_file_of_two_keys_opens_backups_of_both(place: Place, tmp_path: Path) -> None:
    old = place.back_up("old.age")
    place.rotate_vault(masterkey.generate(), settled=False)
    new = place.back_up("new.age")
    assert len(place.masters) == 2
    for name, sealed in (("old", old), ("new", new)):
        assert prove(unpacked(sealed, tmp_path / name), place.masters).values == 1


def test_a_backup_of_before_a_master_key_rotation_takes_the_key_of_that_time(place: Place, tmp_path: Path) -> None:
    old, masters = place.back_up(), place.masters
    place.rotate_vault(masterkey.generate())
    with pytest.raises(BackupError, match="the master key was changed since"):
        prove(unpacked(old, tmp_path / "now"), place.masters)
    assert prove(unpacked(old, tmp_path / "then"), masters).values == 1


def test_past_keys_that_do_not_lead_to_the_one_in_force_are_refused(place: Place, tmp_path: Path) -> None:
    place.rotate_signing()
    other = Place(tmp_path / "other")
    other.rotate_signing()
    opened = unpacked(place.back_up(), tmp_path / "out")
    foreign = EventKeyFiles.beside(other.state.audit).load_past()
    (opened.folder / PAST_KEYS).write_bytes(past_file(EventKeys(SigningKey.generate(), foreign)))
    with pytest.raises(BackupError, match="names keys that the log's key doesn't follow from"):
        prove(opened, place.masters)


def test_records_beside_the_keys_are_in_no_backup(place: Place, tmp_path: Path) -> None:
    place.back_up("earlier.age")
    for name in ("master.key.recovery", "master.key.replaced-1"):
        place.state.master_key.with_name(name).write_text("{}")
    place.rotate_signing()
    opened = unpacked(place.back_up(), tmp_path / "out")
    assert {PAST_KEYS, SIGN_KEY, SIGN_PUB} <= opened.small.keys()
    assert not [name for name in opened.manifest.files if name.startswith("master.key") or name.endswith(".backup")]
    assert len(json.loads(opened.bytes_of(PAST_KEYS) or b"")["past"]) == 1
