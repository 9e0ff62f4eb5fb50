"""Whether git would take a .env along: is it ignored, is it tracked."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from secretsd.cli.errors import Failed
from secretsd.cli.leaks.repository import Repository, have_git


@dataclass(frozen=True)
class GitState:
    """How a file stands with the repository around it."""

    repository: str
    """Empty: it lies in none."""
    ignored: bool = False
    tracked: bool = False
    trouble: str = ""
    """Why git could not be asked about it."""


def look_up(path: Path) -> GitState | None:
    """Return how `path` stands with git; None where there is no git to ask. A broken repository stops no import."""
    if not have_git():
        return None
    try:
        repository = Repository.around(path)
    except Failed as failed:
        return GitState("", trouble=f"{failed.message}; {failed.hint}")
    if repository is None:
        return GitState("")
    return GitState(repository.name, repository.ignores(path), repository.tracks(path))


def remarks(path: Path, state: GitState | None) -> list[str]:
    """Return what an operator has to know or do, a line each."""
    if state is None:
        return ["git isn't installed here: whether a repository has the .env was not looked up"]
    if state.trouble:
        return [f"whether it has {path} was not looked up: {state.trouble}"]
    if not state.repository:
        return []
    folder, name = shlex.quote(str(path.parent)), shlex.quote(path.name)
    lines = []
    if state.tracked:
        lines.append(
            f"git tracks {path}, so that each commit takes it along, ignored or not: "
            f"git -C {folder} rm --cached {name}, then commit"
        )
    if not state.ignored and not state.tracked:
        lines.append(
            f"{path} isn't ignored by git, so that `git add .` takes it along: "
            f"echo /{name} >> {shlex.quote(str(path.parent / '.gitignore'))}"
        )
    elif not state.ignored:
        lines.append(f"then ignore it: echo /{name} >> {shlex.quote(str(path.parent / '.gitignore'))}")
    return lines
