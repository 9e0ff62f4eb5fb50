"""What a walk looks into, and what it leaves out and says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from secretsd.cli.leaks.tree import Tree, chunks


def files(tree: Tree) -> list[str]:
    return [os.path.relpath(path, tree.root) for path in tree.files()]


def test_links_and_special_files_are_counted_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    tree = Tree(tmp_path)
    assert files(tree) == ["a/b/file"]
    assert (tree.skipped.symlinks, tree.skipped.special) == (2, 1)


def test_globs_leave_out_names_and_paths(tmp_path: Path) -> None:
    for name in ("node_modules/x", "src/a.log", "src/a.py", "src/gen/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tree = Tree(tmp_path, ["node_modules", "*.log", "src/gen"])
    assert files(tree) == ["src/a.py"]
    assert tree.skipped.excluded == 3


def test_of_a_git_folder_all_but_the_objects_is_looked_into(tmp_path: Path) -> None:
    for name in (".git/HEAD", ".git/config", ".git/refs/x", ".git/objects/ab/cd", "objects/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tree = Tree(tmp_path)
    assert files(tree) == [".git/HEAD", ".git/config", ".git/refs/x", "objects/e"]
    assert tree.git_folders == [tmp_path / ".git"]


def test_a_folder_that_can_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    tree = Tree(tmp_path)
    assert files(tree) == []
    assert tree.skipped.unreadable == [f"{tmp_path / 'closed'}: Permission denied"]


def test_a_file_alone_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * (3 << 20))
    assert files(Tree(tmp_path / "one")) == ["."]
    assert [len(chunk) for chunk in chunks(tmp_path / "one")] == [1 << 20] * 3


def test_a_link_put_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        next(chunks(tmp_path / "link"))
