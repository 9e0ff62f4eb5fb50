"""policy: a policy tried out before it is in force."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from secretsd.audit.logfiles import find_files
from secretsd.audit.reader import LogReader
from secretsd.audit.verifier import verify_files
from secretsd.cli.errors import Failed
from secretsd.cli.options import EXISTING_FILE, Commands, Settings, config_option, json_option
from secretsd.cli.output import counter, emit_json, print_table
from secretsd.cli.replay import Change, Line, changes, gather
from secretsd.cli.why import explained
from secretsd.config import load
from secretsd.errors import SecretsdError


@click.group(cls=Commands)
def policy() -> None:
    """Try a policy out before it is in force."""


@policy.command
@click.argument("file", type=EXISTING_FILE, metavar="FILE")
@click.option(
    "--log",
    type=EXISTING_FILE,
    metavar="FILE",
    help="The audit log; its rotated files are read too. Default: the one that the configuration names.",
)
@config_option("The daemon's configuration, where no --log is given.")
@json_option
@click.pass_context
def test(ctx: click.Context, file: Path, log: Path | None, config: Path) -> None:
    """Replay the audit log against the policy in FILE: who would lose or gain what.

    What each client did or was denied is judged by FILE, and compared with how it was judged last. The log is
    verified first. The exit status is 1 when somebody would lose something.
    """
    settings: Settings = ctx.obj
    proposed = explained(file)
    try:
        uses = gather(_lines(log or load(config).paths.audit_path))
    except SecretsdError as error:
        raise Failed(str(error), hint="name the log with --log, or its configuration with --config") from None
    except (OSError, EOFError) as error:
        raise Failed(f"the log can't be read: {error}") from None
    found = changes(uses, proposed)
    if settings.as_json:
        emit_json({"uses": len(uses), "changes": [_as_json(change) for change in found]})
    else:
        _show(found, len(uses))
    ctx.exit(Failed.exit_code if any(not change.verdict.allowed for change in found) else 0)


def _lines(path: Path) -> Iterator[Line]:
    """Yield the lines of the log at `path` with its rotated files, after verifying all of it."""
    files = find_files(path)
    if not files:
        raise Failed(f"there is no audit log at {path}")
    with counter("verifying") as count:
        report = verify_files(files, None, count)
    for _, raw in LogReader(path).lines((report.first or 1) - 1):
        yield msgspec.json.decode(raw, type=Line)


def _show(found: list[Change], uses: int) -> None:
    if found:
        rows = [
            (one.word, one.use.client, one.use.action, one.use.name, str(one.record.count), one.record.last, _why(one))
            for one in found
        ]
        print_table(("CHANGE", "CLIENT", "ACTION", "SECRET", "TIMES", "LAST", "WHY"), rows)
    else:
        click.echo(f"nothing changes for the {uses} kinds of access in the log")


def _why(change: Change) -> str:
    return f"line {change.verdict.line}: {change.verdict.reason}"


def _as_json(change: Change) -> dict[str, object]:
    return {
        "change": change.word,
        "client": change.use.client,
        "action": change.use.action,
        "name": change.use.name,
        "times": change.record.count,
        "last": change.record.last,
        "line": change.verdict.line,
        "reason": change.verdict.reason,
    }
