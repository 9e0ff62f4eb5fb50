"""Values in a history are found in every object, with the commit that brought them; git never learns a value."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from secretsd.cli.errors import Failed
from secretsd.cli.leaks.findings import Finding, advice
from secretsd.cli.leaks.history import search_history
from secretsd.cli.leaks.needles import Matcher, Value, needles
from secretsd.cli.leaks.replacements import replacement_rules
from secretsd.cli.leaks.repository import Repository
from secretsd.crypto.sensitive import Sensitive
from tests.support.repository import GitRepository

SECRET = b"pl4nted-value"
PEM = b"-----BEGIN K-----\npl4nted-line.*\n-----END K-----"


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "repository")


def found(repository: GitRepository, *values: tuple[str, bytes]) -> list[Finding]:
    wanted = [Value(name, 1, Sensitive(text), "external") for name, text in values or [("a", SECRET)]]
    around = Repository.around(repository.folder)
    assert around is not None
    return search_history(around, Matcher(needles(wanted)))


def test_a_removed_file_is_found_with_the_commit_that_brought_it(repository: GitRepository) -> None:
    repository.commit("first", {"README": b"hello"})
    brought = repository.commit("oops", {"deploy/.env": b"A=1\nB=" + SECRET + b"\n"})
    repository.commit("gone", {"deploy/.env": None})
    (one,) = found(repository)
    assert (one.commit, one.path, one.line, one.reach) == (brought, "deploy/.env", 2, "refs")


def test_the_oldest_commit_counts_and_how_many_there_are(repository: GitRepository) -> None:
    first = repository.commit("1", {".env": SECRET})
    repository.commit("2", {".env": None})
    repository.commit("3", {".env": SECRET})
    (one,) = found(repository)
    assert (one.commit, one.commits) == (first, 2)


def test_packed_objects_are_found_as_loose_ones_are(repository: GitRepository) -> None:
    repository.commit("1", {f"f{number}": b"x" * number + SECRET for number in range(40)})
    loose = found(repository)
    repository.git("gc", "-q", "--prune=now")
    assert len(loose) == 40
    assert found(repository) == loose


def test_other_branches_stashes_and_tags_are_looked_through(repository: GitRepository) -> None:
    repository.commit("1", {"README": b"hello"})
    repository.git("checkout", "-q", "-b", "side")
    side = repository.commit("2", {"side": SECRET})
    repository.git("checkout", "-q", "main")
    (repository.folder / "README").write_bytes(b"stashed " + SECRET)
    repository.git("stash", "-q")
    repository.git("tag", "-a", "v1", "-m", "tagged " + SECRET.decode())
    places = {one.path: one for one in found(repository)}
    assert set(places) == {"side", "README", "a tag's message"}
    assert places["side"].commit == side
    assert {one.reach for one in places.values()} == {"refs"}


def test_a_commits_message_is_looked_through(repository: GitRepository) -> None:
    commit = repository.commit("use " + SECRET.decode(), {"README": b"hello"})
    (one,) = found(repository)
    assert (one.commit, one.path) == (commit, "a commit's message")


def test_what_a_merge_alone_brought_is_found(repository: GitRepository) -> None:
    repository.commit("1", {"file": b"a"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit("2", {"other": b"b"})
    repository.git("checkout", "-q", "main")
    repository.commit("3", {"third": b"c"})
    repository.git("merge", "-q", "--no-commit", "side")
    merged = repository.commit("merge", {"file": SECRET})
    (one,) = found(repository)
    assert (one.commit, one.path) == (merged, "file")


def test_what_only_the_reflog_or_nothing_leads_to_is_found_and_called_so(repository: GitRepository) -> None:
    repository.commit("1", {"README": b"hello"})
    dropped = repository.commit("2", {".env": SECRET})
    repository.git("reset", "-q", "--hard", "HEAD~1")
    (one,) = found(repository)
    assert (one.commit, one.reach) == (dropped, "reflog")
    repository.git("reflog", "expire", "--expire=now", "--all")
    (one,) = found(repository)
    assert (one.commit, one.reach) == ("", "nothing")
    assert any("gc --prune=now" in line for line in advice([one], None))


def test_large_and_binary_blobs_are_looked_through(repository: GitRepository) -> None:
    repository.commit("1", {"big": b"\0" * (3 << 20) + SECRET + b"\xff" * 100})
    (one,) = found(repository)
    assert one.path == "big"


def test_a_bare_repository_and_a_worktree_are_read(repository: GitRepository, tmp_path: Path) -> None:
    repository.commit("1", {".env": SECRET})
    repository.git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    repository.git("worktree", "add", "-q", str(tmp_path / "tree"))
    for folder in (tmp_path / "bare.git", tmp_path / "tree"):
        around = Repository.around(folder)
        assert around is not None
        assert search_history(around, Matcher(needles([Value("a", 1, Sensitive(SECRET))])))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_repository_is_read(repository: GitRepository) -> None:
    repository.commit("1", {".env": SECRET})
    for path in [repository.folder, *repository.folder.rglob("*")]:
        os.chown(path, 65534, 65534)
    assert len(found(repository)) == 1


def test_a_damaged_repository_is_no_clean_one(repository: GitRepository) -> None:
    repository.commit("1", {".env": SECRET})
    repository.git("gc", "-q")
    (pack,) = (repository.folder / ".git" / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes()[:40])
    with pytest.raises(Failed, match="git"):
        found(repository)


def test_git_is_given_neither_values_nor_our_credentials(
    repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("1", {".env": SECRET})
    monkeypatch.setenv("JARVIS_CLIENT_TOKEN", "t0ken")
    given: list[str] = []
    popen = subprocess.Popen

    def spying(command: Sequence[str], *args: Any, **options: Any) -> Any:
        given.extend([*command, *(f"{name}={text}" for name, text in options["env"].items())])
        return popen(command, *args, **options)

    monkeypatch.setattr(subprocess, "Popen", spying)
    assert found(repository)
    assert given
    assert not [one for one in given if "pl4nted" in one or "t0ken" in one or "JARVIS" in one]


def test_a_hostile_configuration_runs_nothing(repository: GitRepository, tmp_path: Path) -> None:
    repository.commit("1", {".env": SECRET})
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "gpg.program", "diff.external", "core.sshCommand"):
        repository.git("config", key, str(script))
    repository.git("config", "log.showSignature", "true")
    signed = repository.git("cat-file", "commit", "HEAD").replace(
        "\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n", 1
    )
    (tmp_path / "signed").write_text(signed + "\n")
    oid = repository.git("hash-object", "-t", "commit", "-w", str(tmp_path / "signed"))
    repository.git("update-ref", "refs/heads/signed", oid)
    repository.git("config", "remote.origin.url", f"ext::{script}")
    assert found(repository)
    assert not (tmp_path / "ran").exists()


def test_the_rewrite_takes_out_what_was_found(repository: GitRepository, tmp_path: Path) -> None:
    """The real git-filter-repo, with the file that is written for it."""
    values = ("a", SECRET), ("b", SECRET + b"==>more"), ("c", PEM), ("d", b"pl4nted-wrapped")
    lines = base64.encodebytes(b"x" * 50 + b"pl4nted-wrapped")
    repository.commit(
        "with " + SECRET.decode(),
        {"one": SECRET + b"==>more\n", "two": b"<" + PEM + b">", "keep": b"kept", "lines": lines},
    )
    repository.commit("2", {"one": None})
    before = found(repository, *values)
    assert {one.secret for one in before} == {"a", "b", "c", "d"}
    rules = tmp_path / "rules"
    rules.write_bytes(replacement_rules(before))
    filter_repo = str(Path(sys.executable).parent / "git-filter-repo")
    subprocess.run(
        [filter_repo, "--force", "--quiet", "--replace-text", rules, "--replace-message", rules],
        cwd=repository.folder, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert found(repository, *values) == []
    assert (repository.folder / "keep").read_bytes() == b"kept"
