"""The values in a repository's objects, and the commits that lead to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from secretsd.cli.leaks.findings import Finding, Reach
from secretsd.cli.leaks.needles import Hit, Matcher
from secretsd.cli.leaks.repository import Repository

_PLACES: Final = {"commit": "a commit's message", "tag": "a tag's message", "tree": "a file's name"}
_PASSES: Final[tuple[tuple[Reach, tuple[str, ...]], ...]] = (("refs", ("--all",)), ("reflog", ("--reflog",)))


@dataclass
class _Found:
    """An object that holds values, and what is known of the commits that have it."""

    kind: str
    hits: Sequence[Hit]
    path: str = ""
    commit: str = ""
    date: str = ""
    commits: int = 0
    reach: Reach = "nothing"


def search_history(repository: Repository, matcher: Matcher) -> list[Finding]:
    """Return where values lie in any object of the repository, each secret's version once an object.

    Commits are looked up only for objects that hold one. Raises Failed when git fails.
    """
    found: dict[str, _Found] = {}
    for one in repository.objects():
        hits = matcher.search(one.chunks)
        if hits:
            found[one.oid] = _Found(one.kind, hits)
    if found:
        _locate(repository, found)
    for holder in found.values():
        holder.path = matcher.masked(holder.path)
    name = matcher.masked(repository.name)
    findings = [_finding(name, oid, one, hit) for oid, one in found.items() for hit in one.hits]
    return sorted(findings, key=lambda one: (one.secret, one.date, one.path, one.commit))


def _locate(repository: Repository, found: dict[str, _Found]) -> None:
    """Note the oldest commit of each object and how many brought it: by refs, else by the reflog."""
    for reach, options in _PASSES:
        missing = {oid for oid, one in found.items() if one.reach == "nothing"}
        if not missing:
            return
        for commit in repository.commits(*options):
            if commit.oid in missing:
                _note(found[commit.oid], reach, commit.oid, commit.date, "")
            for oid, path in commit.blobs:
                if oid in missing:
                    _note(found[oid], reach, commit.oid, commit.date, path)


def _note(found: _Found, reach: Reach, commit: str, date: str, path: str) -> None:
    """Note one commit; they come newest first, so the last one noted is the oldest."""
    found.commits += found.commit != commit
    found.reach, found.commit, found.date, found.path = reach, commit, date, path


def _finding(repository: str, oid: str, found: _Found, hit: Hit) -> Finding:
    finding = Finding(
        hit.needle,
        found.path or _PLACES.get(found.kind, f"object {oid[:12]}"),
        hit.line,
        repository,
        found.commit,
        found.date,
        found.commits,
        found.reach,
    )
    # A tag or a tree is none of a commit's blobs, so that no commit was noted for it; refs lead to most of them.
    return replace(finding, reach="refs") if found.kind in {"tag", "tree"} else finding
