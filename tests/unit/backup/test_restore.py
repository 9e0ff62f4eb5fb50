from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from secretsd.audit.logfiles import find_files
from secretsd.audit.verifier import verify_files
from secretsd.backup import placing, restore
from secretsd.backup.restore import Restored
from secretsd.daemon.acceptance import accept_rollback
from secretsd.daemon.opening import open_state
from secretsd.errors import BackupError, KeyFileError, VaultError, VaultLocked
from secretsd.vault.store import Lock
from tests.unit.backup.places import OPENS, Place
from tests.unit.support.disk import spy


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "home")
    place.commit("x", "one")
    place.read(2)
    return place


def put_back(place: Place, sealed: Path, *, accept_older: bool = False) -> Restored:
    return restore.restore(place.config, sealed, OPENS, accept_older=accept_older)


def refused(place: Place, sealed: Path, match: str) -> None:
    before = place.files()
    with pytest.raises(BackupError, match=match):
        put_back(place, sealed)
    assert place.files() == before


def lose(place: Place, *kept: str) -> None:
    """Lose all of the host but the keepsakes."""
    for path in [place.state.vault, place.state.sign_key, place.state.sign_pub, *find_files(place.state.audit)]:
        if path.name not in kept:
            path.unlink()


def opens(place: Place, value: str) -> str:
    """Start on it as the daemon does: vault and log are of one time, in a new epoch that is in the log first."""
    opened = open_state(place.config)
    assert place.value("x") == value
    assert opened.owed is not None
    note = opened.owed.outbox[-1]
    assert note.type == "daemon.started"
    assert note.data["epoch"] == opened.vault.document.epoch
    first = opened.event_keys.past[-1].key if opened.event_keys.past else opened.key.public
    verify_files(find_files(place.state.audit), first)
    return str(note.data["note"])


def test_a_lost_host_comes_back_when_told_that_nothing_newer_is_left(place: Place) -> None:
    sealed = place.back_up()
    epoch = place.vault.document.epoch
    lose(place)
    refused(place, sealed, "nothing here, and nothing that the broker tells, says whether there was a newer state")
    done = put_back(place, sealed, accept_older=True)
    assert "restored from the backup of" in opens(place, "one")
    assert place.vault.document.epoch == done.journal.epoch != epoch
    assert epoch in {past.epoch for past in place.vault.document.past_epochs}


def test_a_vault_that_was_lost_alone_comes_back_without_giving_anything_up(place: Place) -> None:
    sealed = place.back_up()
    place.read(3)
    lose(place, place.state.sign_key.name, place.state.sign_pub.name, place.state.audit.name)
    done = put_back(place, sealed)
    assert (done.older, done.journal.log_kept) == ((), True)
    assert "the log from line 6" in opens(place, "one")


def test_a_damaged_vault_comes_back_and_is_kept_aside(place: Place) -> None:
    sealed = place.back_up()
    place.state.vault.write_bytes(b"{damaged")
    done = put_back(place, sealed)
    opens(place, "one")
    assert (place.folder / done.journal.aside / "vault.json").read_bytes() == b"{damaged"


def test_a_log_that_was_lost_alone_comes_back(place: Place) -> None:
    sealed = place.back_up()
    lose(place, place.state.vault.name, place.state.sign_key.name, place.state.sign_pub.name)
    assert not put_back(place, sealed).journal.log_kept
    opens(place, "one")


def test_a_shorter_log_is_replaced_and_kept_aside_with_its_rotated_files(place: Place) -> None:
    place.rotate_log("audit.jsonl.1")
    place.read(2)
    short = place.state.audit.read_bytes()
    place.read(2)
    sealed = place.back_up()
    place.state.audit.write_bytes(short)
    done = put_back(place, sealed)
    opens(place, "one")
    aside = place.folder / done.journal.aside
    assert sorted(path.name for path in aside.iterdir() if path.name.startswith("audit.jsonl")) == [
        "audit.jsonl", "audit.jsonl.1",
    ]  # fmt: skip
    assert (aside / "audit.jsonl").read_bytes() == short
    assert find_files(place.state.audit) == [place.state.audit]


def test_an_older_state_is_refused_and_accepted_knowingly_with_the_newer_log_kept(place: Place) -> None:
    sealed = place.back_up()
    place.commit("x", "two")
    place.commit("x", "three")
    refused(place, sealed, "the vault that is here is newer by 2 commits; .* tells of 2 commits more")
    done = put_back(place, sealed, accept_older=True)
    assert done.journal.log_kept
    assert "from generation 1, the log from line 5" in opens(place, "one")


def test_a_backup_of_the_time_before_an_accepted_one_is_older_again(place: Place) -> None:
    sealed = place.back_up()
    place.commit("x", "two")
    put_back(place, sealed, accept_older=True)
    refused(place, sealed, "of an epoch that the backup doesn't know")


def test_another_vaults_backup_is_refused_always(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other")
    other.commit("x", "foreign")
    shutil.copy(place.state.master_key, other.state.master_key)
    sealed = place.back_up()
    before = other.files()
    with pytest.raises(BackupError, match="the vault that is here is another one"):
        put_back(other, sealed, accept_older=True)
    assert other.files() == before


def test_a_backup_of_another_master_key_is_refused(place: Place, tmp_path: Path) -> None:
    sealed = place.back_up()
    place.state.master_key.write_bytes(Place(tmp_path / "other").state.master_key.read_bytes())
    refused(place, sealed, "fails its MAC under this master key")


def test_without_a_master_key_nothing_is_begun(place: Place) -> None:
    sealed = place.back_up()
    place.state.master_key.unlink()
    with pytest.raises(KeyFileError, match="no backup holds it: bring it back first"):
        put_back(place, sealed)


def test_while_a_daemon_runs_nothing_is_begun(place: Place) -> None:
    sealed = place.back_up()
    lock = Lock(place.state.lock)
    with pytest.raises(VaultLocked):
        put_back(place, sealed)
    lock.release()


def test_lines_that_the_last_commit_owed_are_still_owed(place: Place) -> None:
    place.commit("x", "two", lines=False)
    sealed = place.back_up()
    lose(place)
    put_back(place, sealed, accept_older=True)
    opened = open_state(place.config)
    assert opened.owed is not None
    assert [line.type for line in opened.owed.outbox] == ["secret.updated", "daemon.started"]


def test_the_count_of_broker_connections_never_goes_back(place: Place) -> None:
    log_id = place.vault.document.audit.log_id
    cursor = {"log_id": log_id, "session": 3, "changes": 2, "audit": 2, "format": 1}
    place.state.cursor.write_text(json.dumps(cursor))
    sealed = place.back_up()
    lose(place)
    place.state.cursor.write_text(json.dumps({**cursor, "session": 9, "changes": 70, "audit": 70}))
    put_back(place, sealed, accept_older=True)
    restored = json.loads(place.state.cursor.read_text())
    assert {key: restored[key] for key in cursor} == {**cursor, "session": 9}


def test_a_disk_that_is_full_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = place.back_up()
    place.commit("x", "two")
    before = place.files()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(place.state.restoring))

    monkeypatch.setattr(placing, "decide", full)
    with pytest.raises(OSError, match="No space left"):
        put_back(place, sealed, accept_older=True)
    monkeypatch.undo()
    assert place.files() == before


def test_a_disk_that_fails_after_the_decision_is_told_with_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs, said = 0, ""
    while "all of the backup is in place" not in said:
        place = Place(tmp_path / f"at{syncs}")
        place.commit("x", "one")
        sealed = place.back_up()
        place.commit("x", "two")
        with monkeypatch.context() as patch:
            spy(patch, "fsync").fail(errno.ENOSPC, after=syncs)
            with pytest.raises((BackupError, OSError)) as failed:
                put_back(place, sealed, accept_older=True)
        syncs, said = syncs + 1, str(failed.value)
        assert str(place.folder) in said
        decided = place.state.restoring.exists()
        assert ("The restore is decided, and not finished" in said) is decided
        assert ("backup restore --resume" in said) is (decided or "all of the backup is in place" in said)
        if decided:
            restore.resume(place.config)
        assert place.value("x") == ("one" if "--resume" in said else "two")
    assert syncs > 10


class Killed(BaseException):
    pass


def killed_after(monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    """End the process, as it were, at the rename after so many of the placing."""
    left = [renames]
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)


def placed(place: Place, monkeypatch: pytest.MonkeyPatch, sealed: Path, renames: int) -> bool:
    """Restore, ended at a rename of the placing; return whether it came through."""
    real = placing.finish

    def finish(*arguments: object) -> None:
        killed_after(monkeypatch, renames)
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(placing, "finish", finish)
    try:
        put_back(place, sealed, accept_older=True)
    except Killed:
        return False
    finally:
        monkeypatch.undo()
    return True


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Place | None]:
    """Make a place whose restore was ended at a rename; None where it came through before that."""

    def make(renames: int) -> Place | None:
        place = Place(tmp_path / f"at{renames}")
        place.commit("x", "one")
        place.rotate_signing()
        sealed = place.back_up()
        place.rotate_log("audit.jsonl.1")
        # A fork: nothing here can be kept.
        place.state.audit.with_name("audit.jsonl.1").write_bytes(b"")
        place.state.vault.write_bytes(b"{damaged")
        return None if placed(place, monkeypatch, sealed, renames) else place

    return make


def test_a_restore_that_was_killed_anywhere_is_gone_on_with(interrupted: Callable[[int], Place | None]) -> None:
    renames = 0
    while (place := interrupted(renames)) is not None:
        renames += 1
        with pytest.raises(VaultError, match="backup restore --resume"):
            open_state(place.config)
        with pytest.raises(VaultError, match="backup restore --resume"):
            accept_rollback(place.config)
        with pytest.raises(BackupError, match="an earlier restore was interrupted"):
            put_back(place, place.folder / "backup.age")
        with pytest.raises(VaultError, match="backup restore --resume"):
            place.back_up()
        restore.resume(place.config)
        assert place.state.past_keys.exists()
        opens(place, "one")
        assert not place.state.restoring.exists()
        assert not list(place.folder.glob(".restore"))
        assert len(list(place.folder.glob("before-restore-*/vault.json"))) == 1
    assert renames > 4


def test_there_is_nothing_to_resume_where_nothing_was_interrupted(place: Place) -> None:
    with pytest.raises(BackupError, match="no restore was interrupted here"):
        restore.resume(place.config)
