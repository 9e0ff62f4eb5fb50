"""What was found, without any value: where, in which form, what to revoke, and which rewrite to run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from secretsd.cli.leaks.needles import Needle

Reach = Literal["refs", "reflog", "nothing"]

OUTDATED: Final = "outdated"
"""As a value's type: the vault has (or gets) another one."""


@dataclass(frozen=True)
class Finding:
    """A place of one version of a secret. For the history: the oldest commit that has it, and of how many."""

    needle: Needle
    path: str
    """Without the values that may be in it (Matcher.masked), as `repository`."""
    line: int
    repository: str = ""
    """Empty: an ordinary file."""
    commit: str = ""
    date: str = ""
    commits: int = 0
    reach: Reach = "refs"
    """What still leads to the object in the history."""

    @property
    def secret(self) -> str:
        """Whose value it is."""
        return self.needle.value.secret

    def as_json(self) -> dict[str, Any]:
        """Return it for `--json`."""
        where = {"kind": "file", "path": self.path, "line": self.line}
        if self.repository:
            where = {
                "kind": "history",
                "repository": self.repository,
                "commit": self.commit or None,
                "date": self.date or None,
                "path": self.path,
                "line": self.line,
                "commits": self.commits,
                "reachable_from": self.reach,
            }
        return {"secret": self.secret, "version": self.needle.value.version, "form": self.needle.form, **where}

    @property
    def place(self) -> str:
        """The place in words."""
        if not self.repository:
            return f"{self.path}:{self.line}"
        if not self.commit:
            return f"{self.repository}: {self.path}, which no commit leads to any more"
        more = f" and {self.commits - 1} more" if self.commits > 1 else ""
        only = ", kept by the reflog only" if self.reach == "reflog" else ""
        return (
            f"{self.repository}: {self.path}:{self.line} in commit {self.commit[:12]} of {self.date[:10]}{more}{only}"
        )


def advice(findings: Sequence[Finding], replacements: str | None) -> list[str]:
    """Return what to do, a line each: revoke first, then the rewrite of each repository. None of it is done here."""
    lines: list[str] = []
    outdated = sorted({one.secret for one in findings if one.needle.value.type == OUTDATED})
    by_hand = sorted({one.secret for one in findings if one.needle.value.type in {"", "external"}})
    by_daemon = sorted({one.secret for one in findings} - {*outdated, *by_hand})
    if by_hand:
        lines.append(
            "revoke these where they were issued, get new ones, and store them with `secretsctl put --urgent`: "
            + ", ".join(by_hand)
        )
    if outdated:
        lines.append(
            f"a new value is made for these; see that nothing takes the old one any more: {', '.join(outdated)}"
        )
    if by_daemon:
        lines.append(
            "give new values, and tell the other ends of them (a database doesn't learn by itself): "
            f"secretsctl rotate --urgent {' '.join(by_daemon)}"
        )
    lines.extend(_rewrites(findings, replacements))
    return lines


def _rewrites(findings: Sequence[Finding], replacements: str | None) -> Iterable[str]:
    in_history = [one for one in findings if one.repository]
    file = shlex.quote(replacements or "REPLACEMENTS")
    for name in sorted({one.repository for one in in_history if one.reach == "refs"}):
        yield (
            f"rewrite the history of {name}, in a fresh clone, once the values are revoked: "
            f"git filter-repo --replace-text {file} --replace-message {file}; then push with force, have every clone "
            "made anew, and ask the host to drop its caches"
        )
    for name in sorted({one.repository for one in in_history if one.reach != "refs"}):
        yield (
            f"drop what no branch or tag leads to: git -C {shlex.quote(name)} reflog expire --expire=now --all && "
            f"git -C {shlex.quote(name)} gc --prune=now (stashes go too)"
        )
    if in_history and replacements is None:
        yield "--replacements FILE writes that file (it holds the values: keep it 0600, and remove it afterwards)"
