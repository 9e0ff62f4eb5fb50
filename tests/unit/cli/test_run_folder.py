"""secretsctl run --files: a private folder in memory, and the note of what was acted on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from secretsd_client import Secret

from secretsd.cli.errors import Failed
from secretsd.cli.running.folder import NOTE, Delivered, Difference, Folder, differences, filesystem


def mounted(path: Path, kind: str, table: Path) -> Path:
    """Write a /proc/self/mountinfo in which the folder's file system is of this kind."""
    device = path.stat().st_dev
    table.write_text(
        "21 1 253:77 / /other rw - xfs /dev/other rw\n"
        f"22 1 {os.major(device)}:{os.minor(device)} / / rw,nosuid shared:2 - {kind} none rw\n"
    )
    return table


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return mounted(tmp_path, "tmpfs", tmp_path / "mountinfo")


def secret(name: str, value: str, version: int = 1) -> Secret:
    return Secret(name, value, f"kid-of-version-{version}", version, "9999-12-31T23:59:59.999Z")


def test_the_folder_is_made_private(tmp_path: Path, table: Path) -> None:
    Folder.open(tmp_path / "new", on_disk=False, mountinfo=table)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_secret_takes_no_file_of_another_with_it(tmp_path: Path, table: Path) -> None:
    folder = Folder.open(tmp_path / "new", on_disk=False, mountinfo=table)
    folder.update([secret("key.new", "the new key")])
    folder.update([secret("key", "the key")])
    assert (folder.path / "key.new").read_text() == "the new key"


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, table: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(Failed, match="isn't private") as refused:
        Folder.open(tmp_path / "open", on_disk=False, mountinfo=table)
    assert refused.value.hint == f"take another folder, or run `chmod 700 {tmp_path}/open`"


@pytest.mark.parametrize(("mode", "used"), [(0o1777, False), (0o1777, True), (0o755, True), (0o777, True)])
def test_nobody_is_told_to_close_a_folder_that_others_use(
    tmp_path: Path, table: Path, mode: int, *, used: bool
) -> None:
    folder = tmp_path / "shm"
    folder.mkdir()
    folder.chmod(mode)
    if used:
        (folder / "of another").touch()
    with pytest.raises(Failed, match="isn't private") as refused:
        Folder.open(folder, on_disk=False, mountinfo=table)
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("take another folder, one for this alone")
    assert "chmod" not in refused.value.hint


def test_a_disk_is_refused_unless_allowed(tmp_path: Path) -> None:
    table = mounted(tmp_path, "ext4", tmp_path / "mountinfo")
    with pytest.raises(Failed, match=r"on a disk \(ext4\)"):
        Folder.open(tmp_path / "new", on_disk=False, mountinfo=table)
    Folder.open(tmp_path / "new", on_disk=True, mountinfo=table)


def test_a_file_system_that_is_not_listed_is_unknown() -> None:
    assert filesystem(os.makedev(1, 2), "22 1 3:4 / / rw - tmpfs none rw\n") is None


def test_the_note_holds_no_value(tmp_path: Path, table: Path) -> None:
    folder = Folder.open(tmp_path / "new", on_disk=False, mountinfo=table)
    folder.update([secret("db", "s3cr3t")])
    folder.remember({"db": Delivered("kid-of-version-1", 1)})
    assert folder.remembered() == {"db": Delivered("kid-of-version-1", 1)}
    assert json.loads((folder.path / NOTE).read_text()) == {"db": {"kid": "kid-of-version-1", "version": 1}}
    assert (folder.path / "db").read_text() == "s3cr3t"


@pytest.mark.parametrize("content", ['{"../x": {"kid": "k", "version": 1}}', "[]", "\x00"])
def test_a_note_that_is_not_ours_is_refused(tmp_path: Path, table: Path, content: str) -> None:
    folder = Folder.open(tmp_path / "new", on_disk=False, mountinfo=table)
    (folder.path / NOTE).write_text(content)
    (folder.path / NOTE).chmod(0o600)
    with pytest.raises(Failed, match="isn't a note"):
        folder.remembered()


def test_differences_are_what_is_new_changed_or_gone() -> None:
    one, two = Delivered("kid-one", 1), Delivered("kid-two", 2)
    assert differences({"a": one, "b": one, "c": one}, {"a": one, "b": two, "d": one}) == [
        Difference("b", 1, 2),
        Difference("c", 1, None),
        Difference("d", None, 1),
    ]
