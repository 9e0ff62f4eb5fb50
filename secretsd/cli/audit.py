"""audit: the log, without a daemon."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click
from secretsd_bus import VerifyKey

from secretsd.audit.logfiles import find_files
from secretsd.audit.verifier import ChainBroken, Report, verify_files
from secretsd.cli.errors import Failed
from secretsd.cli.options import EXISTING_FILE, Commands, Settings, config_option, json_option, pubkey_option
from secretsd.cli.output import counter, emit_json
from secretsd.cli.prune import prune
from secretsd.cli.terminal import styled
from secretsd.config import load
from secretsd.errors import SecretsdError

_BROKEN_HINT: Final = (
    "from this line on nothing that the log says is proven; keep all of its files as they are, and compare with a "
    "copy or with what the bus has heard"
)
_UNFINISHED: Final = "unfinished: it was cut off, or a crash came in between; a daemon that starts sets it aside"


@click.group(cls=Commands)
def audit() -> None:
    """Look after the audit log."""


@audit.command
@click.argument("files", type=EXISTING_FILE, nargs=-1, metavar="[FILE]...")
@pubkey_option(
    "The key that the log begins with. Default: audit.sign.pub beside the log; keep a copy elsewhere, for who "
    "can write the log can write that too.",
)
@config_option("Where the log's path is looked up when no FILE is given.")
@json_option
@click.pass_obj
def verify(settings: Settings, files: tuple[Path, ...], pubkey: Path | None, config: Path) -> None:
    """Verify chain and signatures of the audit log, rotated and compressed files too.

    Without FILE: the log that the configuration names, with its rotated files. The first bad line is named, and the
    exit status is 1; a last line without its end is one.
    """
    paths = list(files) or _configured(config)
    try:
        with counter("verifying") as count:
            report = _verified(paths, None if pubkey is None else pem_key(pubkey), count)
    except ChainBroken as broken:
        if settings.as_json:
            emit_json({"ok": False, "file": str(broken.path), "line": broken.line_number, "reason": broken.reason})
        raise Failed(str(broken), hint=_BROKEN_HINT) from None
    except SecretsdError as error:
        raise Failed(str(error)) from None
    except (OSError, EOFError) as error:
        raise Failed(f"the log can't be read: {error}") from None
    if settings.as_json:
        emit_json(_as_json(report))
    else:
        _show(report)


audit.add_command(prune)


def _as_json(report: Report) -> dict[str, object]:
    return {
        "ok": True,
        "files": [str(path) for path in report.files],
        "lines": report.lines,
        "first": report.first,
        "last": report.last,
        "head": report.head,
        "starts_at_genesis": report.starts_at_genesis,
        "pruned": None if report.pruned is None else {"last": report.pruned.last, "head": report.pruned.head},
        "missing": report.missing,
    }


def _show(report: Report) -> None:
    done = styled("ok", "green")
    if report.first is None:
        click.echo(f"{done}: the log has no line yet")
        return
    click.echo(f"{done}: {report.lines} lines verified, sequence {report.first} to {report.last}, head {report.head}")
    if report.pruned is not None:
        last = report.pruned.prunings[-1]
        rest = "the rest follows them"
        if report.missing is not None:
            rest = (
                f"lines {report.missing[0]} to {report.missing[1]} after them are not here, which nothing accounts for"
            )
        click.echo(
            f"lines up to {report.pruned.last} were pruned, last on {last.at}: the record of it is signed, and {rest}"
        )
    elif not report.starts_at_genesis:
        click.echo(f"lines before {report.first} are not in these files; the first that is vouches for their hash")


def _verified(paths: Sequence[Path], trusted: VerifyKey | None, progress: Callable[[int], None] | None) -> Report:
    """Verify the files (`verify_files`). Raises ChainBroken for a last line without its end, too."""
    report = verify_files(paths, trusted, progress)
    if report.torn is not None and _is_unfinished(report.torn[0]):
        raise ChainBroken(*report.torn, _UNFINISHED)
    return report


def _is_unfinished(path: Path) -> bool:
    """Tell whether the file still has no newline at its end; a running daemon may have been writing a moment ago."""
    if path.suffix == ".gz":
        return True
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"
    except FileNotFoundError:
        return False  # rotated meanwhile


def _configured(config: Path) -> list[Path]:
    try:
        path = load(config).paths.audit_path
        found = find_files(path)
    except (SecretsdError, OSError) as error:
        raise Failed(str(error), hint="name the log's files, or its configuration with --config") from None
    if not found:
        raise Failed(f"there is no audit log at {path}")
    return found


def pem_key(path: Path) -> VerifyKey:
    """Return the public key in a PEM file. Raises Failed."""
    try:
        return VerifyKey.from_pem(path.read_bytes())
    except OSError as error:
        reason = error.strerror or "can't be read"
    except ValueError as error:
        reason = str(error)
    raise Failed(f"the key {path}: {reason}", hint="give the log's first signing key with --pubkey")
