"""audit prune: old files off the front of the log, with a signed record that keeps the rest proven (docs/audit.md)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from secretsd_bus import parse_time, rfc3339

from secretsd.cli.errors import Failed
from secretsd.cli.options import Settings, config_option, insist, json_option
from secretsd.cli.output import counter, emit_json
from secretsd.clock import SystemClock
from secretsd.config import load
from secretsd.daemon import retention
from secretsd.daemon.retention import Pruning
from secretsd.errors import SecretsdError
from secretsd.files import is_full
from secretsd.model import parse_duration

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MIB: Final = 1024 * 1024


class _Before(click.ParamType[str]):
    """An instant, or how long ago; as the log spells times."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            if _DAY.fullmatch(text):
                day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
                return rfc3339(round(day.timestamp() * 1000))
            if "T" in text:
                return rfc3339(parse_time(text))
            ago = parse_duration(text)
        except ValueError:
            self.fail("a day (2026-01-31), a time (2026-01-31T00:00:00.000Z) or how long ago (365d, 12h)", param, ctx)
        if ago is None:
            self.fail("never is older than nothing: name a day, a time or how long ago", param, ctx)
        return rfc3339(max(0, SystemClock().now_ms() - ago))


@click.command
@click.option(
    "--before",
    type=_Before(),
    required=True,
    metavar="TIME|DURATION",
    help="Remove files whose lines are all older: a day, a time (RFC 3339), or how long ago (365d).",
)
@click.option("-n", "--dry-run", is_flag=True, help="Verify what would go and show it; remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@config_option()
@json_option
@click.pass_obj
def prune(settings: Settings, before: str, config: Path, *, dry_run: bool, yes: bool) -> None:
    """Remove old rotated files of the audit log, and keep what proves the rest.

    Whole files go, oldest first, after all of their lines were verified; the daemon and its log rotation may run. What
    the broker is still owed stays. A signed record, audit.pruned.json, says what was removed.
    """
    if not dry_run:
        insist(f"Remove the log's files that are older than {before}, for good?", yes=yes)
    try:
        with counter("verifying what goes") as count:
            done = retention.prune(load(config), before, dry_run=dry_run, progress=count)
    except SecretsdError as error:
        raise Failed(str(error)) from None
    except OSError as error:
        hint = "the record of what goes needs a few KiB beside the log: free them first" if is_full(error) else None
        raise Failed(f"{error.filename or 'the log'}: {error.strerror or type(error).__name__}", hint=hint) from None
    if settings.as_json:
        emit_json(_as_json(done, dry_run=dry_run))
    else:
        _show(done, dry_run=dry_run)


def _as_json(done: Pruning, *, dry_run: bool) -> dict[str, Any]:
    plan = done.plan
    return {
        "dry_run": dry_run,
        "files": [str(file.path) for file in plan.remove],
        "first": plan.first if plan.remove else None,
        "last": plan.last if plan.remove else None,
        "bytes": plan.size,
        "kept_because": plan.kept_because,
        "record": None if done.record is None else str(done.record),
    }


def _show(done: Pruning, *, dry_run: bool) -> None:
    plan = done.plan
    if not plan.remove:
        click.echo(f"nothing to prune: {plan.kept_because}")
        return
    what = "would remove" if dry_run else "removed"
    files = "1 file" if len(plan.remove) == 1 else f"{len(plan.remove)} files"
    click.echo(f"{what} {files}, lines {plan.first} to {plan.last}, {plan.size / _MIB:,.1f} MiB")
    click.echo(f"kept from there on: {plan.kept_because}")
    if done.record is not None:
        click.echo(f"the record is {done.record}; keep it with the log")
