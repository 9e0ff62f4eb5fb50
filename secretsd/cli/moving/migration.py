"""One run of import-env, in its order: plan, backup, import, read back, look at git, and at last the file itself."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from secretsd import files
from secretsd.cli.errors import Failed
from secretsd.cli.leaks.findings import OUTDATED, Finding, advice
from secretsd.cli.leaks.history import search_history
from secretsd.cli.leaks.needles import MIN_LENGTH, Matcher, Value, needles, too_short
from secretsd.cli.leaks.replacements import refuse_existing, write_replacements
from secretsd.cli.leaks.repository import Repository, have_git
from secretsd.cli.moving import ignored, report
from secretsd.cli.moving.carrying import Item, carry_out, changing, compare, read_back
from secretsd.cli.moving.envfile import EnvFile, read_envfile
from secretsd.cli.moving.plan import Choice, make_plan
from secretsd.cli.moving.remainder import Remainder, remainder
from secretsd.cli.moving.sealed import SealTo, write_backup
from secretsd.cli.moving.table import Table
from secretsd.cli.options import insist
from secretsd.cli.output import emit_json
from secretsd.cli.session import Session
from secretsd.cli.terminal import note


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the operator wants."""

    choice: Choice
    table: Table
    dry_run: bool
    yes: bool
    overwrite: bool
    backup: Path | None
    sealing: SealTo
    histories: Sequence[Path]
    replacements: Path | None
    replace: bool


class Migration:
    """A run and what it came to. What can be refused is refused before anything is changed."""

    def __init__(self, file: Path, asked: Asked, *, as_json: bool) -> None:
        refuse_existing(asked.replacements)
        reason = None if asked.backup is None else files.unfit(asked.backup)
        if reason is not None:
            raise Failed(f"{asked.backup} {reason}")
        # A passphrase that is asked for is asked for when the plan was seen; one in a file may be readable only once.
        named = asked.backup is not None and asked.sealing != SealTo()
        self._seal_to = asked.sealing.resolve() if named else None
        self._asked = asked
        self._as_json = as_json
        self._envfile: EnvFile = read_envfile(file)
        self._steps = make_plan(self._envfile, asked.table, asked.choice)
        self._items: list[Item] = []
        self._git = ignored.look_up(self._envfile.path)
        self._repositories = [_repository(one) for one in asked.histories]
        self._backup: Path | None = None
        self._verified = 0
        self._matcher = Matcher(())
        self._findings: list[Finding] = []
        self._too_short: list[str] = []
        self._remainder: Remainder | None = None

    def run(self, session: Session) -> None:
        """Carry it out as far as it is asked for. Raises Failed, UsageError, Unreachable."""
        asked = self._asked
        self._items = compare(session, self._steps)
        if asked.replace:
            self._remaining()  # what is refused is refused now, rather than after the import
        if not self._as_json:
            report.show_plan(self._items, overwrite=asked.overwrite)
        if not asked.dry_run:
            self._import(session)
        try:
            self._search({one.name: one.type for one in session.secrets()} if self._repositories else {})
            if asked.replace and not asked.dry_run:
                self._replace()
        except Failed:
            if not asked.dry_run:
                note(f"imported and read back: {report.count(self._items)}")
            raise

    def report(self) -> None:
        """Say what was done; what else there is to do goes to standard error."""
        if self._as_json:
            emit_json(self._document())
        elif not self._asked.dry_run:
            self._tell_done()
        for line in ignored.remarks(self._envfile.path, self._git):
            note(f"git: {self._matcher.masked(line)}")
        self._tell_history()
        if self._remainder is not None:
            self._tell_remainder(self._remainder)
        made = [one.step.name for one in self._items if one.state == "generated"]
        if made:
            note(f"newly generated, so tell the other ends of these: {', '.join(made)}")

    def _import(self, session: Session) -> None:
        asked = self._asked
        needed = asked.replace or bool(changing(self._items, overwrite=asked.overwrite))
        if needed and sys.stdin.isatty():
            insist("Do it?", yes=asked.yes)
        if asked.backup is not None:  # also where nothing is left to import: who asks for a copy gets one
            seal_to = asked.sealing.resolve() if self._seal_to is None else self._seal_to
            self._backup = write_backup(self._envfile.content, asked.backup, seal_to)
        self._items = carry_out(session, self._items, overwrite=asked.overwrite)
        self._verified = read_back(session, self._items)

    def _search(self, types: Mapping[str, str]) -> None:
        values = [
            Value(one.step.name, None, one.step.value, _type(one, types))
            for one in self._items
            if one.state != "leave" and one.step.value is not None
        ]
        self._matcher = Matcher(needles(one for one in values if not too_short(one)))
        if not self._repositories:
            return
        self._too_short = [one.secret for one in values if too_short(one)]
        try:
            self._findings = [one for where in self._repositories for one in search_history(where, self._matcher)]
        except Failed as failed:
            raise Failed(self._matcher.masked(failed.message), hint=failed.hint) from None
        if self._asked.replacements is not None and self._findings and not self._asked.dry_run:
            write_replacements(self._asked.replacements, self._findings, self._matcher)

    def _replace(self) -> None:
        envfile = self._envfile
        rest = self._remaining()
        if read_envfile(envfile.path).content != envfile.content:
            raise Failed(
                f"{envfile.path} was changed meanwhile, so it was left as it is",
                hint="the secrets are imported; run the same command again",
            )
        try:
            status = envfile.path.stat()
            if rest.removed or rest.comments:
                owner = (status.st_uid, status.st_gid)
                files.save(envfile.path, rest.content, status.st_mode & 0o777, owner=owner)
        except OSError as error:
            raise Failed(
                f"{envfile.path} can't be replaced: {error.strerror}",
                hint="the secrets are imported; run the same command again, or take the lines out by hand",
            ) from None
        self._remainder = rest

    def _remaining(self) -> Remainder:
        """Return what the file becomes once everything that is to be imported is."""
        pending = changing(self._items, overwrite=self._asked.overwrite)
        going = [one.step for one in [*pending, *(one for one in self._items if one.safe)]]
        values = [step.value.reveal().decode() for step in going if step.value is not None]
        return remainder(self._envfile, {step.key for step in going if step.key}, values)

    def _tell_done(self) -> None:
        sent = any(one.state in {"kept", "generated", "replaced"} for one in self._items)
        counted = report.count(self._items)
        click.echo(": ".join(filter(None, ("done, in one commit" if sent else "nothing to do", counted))))
        click.echo(f"read back {self._verified}: all as they were sent")
        if self._backup is not None:
            path = self._envfile.path
            click.echo(self._matcher.masked(f"sealed copy of the .env: {self._backup}"))
            opening = self._asked.sealing.opening()
            command = shlex.join(["secretsctl", "restore-env", str(self._backup), str(path)])
            click.echo(self._matcher.masked(f"the way back: {command}{opening}"))

    def _tell_history(self) -> None:
        for one in self._findings:
            note(f"found {one.secret} ({one.needle.form}) in {one.place}")
        rules = self._asked.replacements
        file = None if rules is None else self._matcher.masked(str(rules))
        for line in advice(self._findings, file):
            note(line)
        if self._too_short:
            note(
                f"not looked for in the history, for they have fewer than {MIN_LENGTH} characters: "
                + ", ".join(self._too_short)
            )
        if self._repositories and not self._findings:
            note("none of the values is in the history of " + ", ".join(self._searched()))
        elif not self._repositories and self._git is not None and self._git.repository:
            repository = self._matcher.masked(self._git.repository)
            note(f"the history of {repository} was not looked through: --history {repository}")

    def _searched(self) -> list[str]:
        return [self._matcher.masked(one.name) for one in self._repositories]

    def _tell_remainder(self, rest: Remainder) -> None:
        path = self._matcher.masked(str(self._envfile.path))
        click.echo(
            f"{path}: {len(rest.removed)} variables and {rest.comments} comments are gone, the rest is as it was",
            err=self._as_json,
        )
        if rest.unread:
            note(f"{path}: not understood, so they stay: lines {', '.join(map(str, rest.unread))}")
        if rest.telling:
            note(f"{path}: these stay, and hold the value of a secret in theirs: {', '.join(rest.telling)}")

    def _document(self) -> dict[str, Any]:
        git, rest = self._git, self._remainder
        return {
            "file": self._matcher.masked(str(self._envfile.path)),
            "dry_run": self._asked.dry_run,
            "variables": [report.as_json(one) for one in self._items],
            "verified": self._verified,
            "backup": None if self._backup is None else self._matcher.masked(str(self._backup)),
            "git": None
            if git is None or not git.repository
            else {"repository": self._matcher.masked(git.repository), "ignored": git.ignored, "tracked": git.tracked},
            "history": {
                "repositories": self._searched(),
                "findings": [one.as_json() for one in self._findings],
                "too_short": self._too_short,
            },
            "replaced": None
            if rest is None
            else {
                "removed": list(rest.removed),
                "comments": rest.comments,
                "not_understood": list(rest.unread),
                "telling": list(rest.telling),
            },
        }


def _repository(path: Path) -> Repository:
    if not have_git():
        raise Failed(
            "git isn't installed here, and only git can read a history", hint="install it, or leave --history out"
        )
    found = Repository.around(path)
    if found is None:
        raise Failed(f"{path} is in no git repository")
    return found


def _type(item: Item, types: Mapping[str, str]) -> str:
    """Return the type of the secret that has the file's value, as far as it is known."""
    if item.step.action != "keep" or item.state == "differs":
        return OUTDATED
    return types.get(item.step.name, "")
