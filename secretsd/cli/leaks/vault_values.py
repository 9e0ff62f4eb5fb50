"""The values to look for: what the caller may read, through the API, so that each read is authorised and audited."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from secretsd.cli import material
from secretsd.cli.errors import Failed
from secretsd.cli.leaks.needles import Value, too_short
from secretsd.cli.output import progress
from secretsd.cli.session import Session, decoded, near, secret_path
from secretsd.model import Metadata, SecretAnswer

_GONE: Final = frozenset({"not-found", "version-not-found"})


@dataclass
class Wanted:
    """The values, and the names of the secrets that are left out for being too short."""

    values: list[Value] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)


def read_values(session: Session, only: Sequence[str], skip: Sequence[str], least: int) -> Wanted:
    """Return the values of all versions that are still given out, of secrets that match; at least one.

    Raises Failed, also where there is nothing to look for, as that must not pass for nothing found; Unreachable.
    """
    chosen = _chosen(session.secrets(), only, skip)
    wanted = Wanted()
    with progress("reading secrets", len(chosen)) as advance:
        for secret in chosen:
            for value in _versions(session, secret):
                if not too_short(value, least):
                    wanted.values.append(value)
                elif secret.name not in wanted.too_short:
                    wanted.too_short.append(secret.name)
            advance()
    if not wanted.values:
        raise Failed(
            f"nothing is looked for: no value of {', '.join(wanted.too_short) or 'these secrets'} has {least} bytes",
            hint="--min-length looks for shorter values too",
        )
    return wanted


def _chosen(readable: Sequence[Metadata], only: Sequence[str], skip: Sequence[str]) -> list[Metadata]:
    """Return the secrets that match. Raises Failed for none, and for a pattern of `only` that matches none: a slip."""
    names = [one.name for one in readable]
    if not names:
        raise Failed(
            "nothing is looked for: this client may read no secret",
            hint="`secretsctl why CLIENT read NAME` says what decides; or be another client (JARVIS_CLIENT_ID)",
        )
    for glob in only:
        if not fnmatch.filter(names, glob):
            raise Failed(
                f"no secret that this client may read matches {glob}",
                hint=near(glob, names) or "`secretsctl ls` lists them",
            )
    chosen = [one for one in readable if (not only or _matches(only, one.name)) and not _matches(skip, one.name)]
    if not chosen:
        raise Failed("nothing is looked for: --skip leaves out every secret", hint="leave it out, or name fewer")
    return chosen


def _versions(session: Session, secret: Metadata) -> Iterator[Value]:
    """Yield the current version and those in grace, newest first; each answer names the one before."""
    query = ""
    while True:
        try:
            answer = decoded(session.get(secret_path(secret.name) + query), SecretAnswer)
        except Failed as failed:
            if failed.slug in _GONE:
                return  # deleted, or its grace ended, since it was listed
            raise
        yield Value(secret.name, answer.version, material.from_answer(answer), answer.type)
        if answer.previous is None or answer.previous.version >= answer.version:
            return
        query = f"?version={answer.previous.version}"


def _matches(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
