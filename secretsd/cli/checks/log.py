"""The audit log, without the daemon: its chain, and the key that it is signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from secretsd_bus import VerifyKey

from secretsd.audit.eventkeys import EventKeyFiles, in_force, keys_in
from secretsd.audit.logfiles import find_files
from secretsd.audit.recovery import newest_line
from secretsd.audit.verifier import ChainBroken, Report, verify_files
from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, failure, ok, plural, warning
from secretsd.cli.errors import Failed
from secretsd.cli.output import counter
from secretsd.errors import KeyFileError, SecretsdError


def chain(context: Context) -> Finding:
    """Verify all of the log, rotated files too."""
    again = f"secretsctl audit verify --config {context.config_path}"
    try:
        report = _verified(context)
    except ChainBroken as broken:
        return failure(
            f"{broken}: from there on the log proves nothing",
            "keep all files of the log as they are, and compare with a backup or with what the bus has heard",
            again,
        )
    except PermissionError:
        raise
    except (SecretsdError, OSError, EOFError) as error:
        return failure(f"the log can't be verified: {error}", again)
    if report.torn is not None and context.holder is None:
        path, line = report.torn
        return warning(f"{path}, line {line}: unfinished, as after a crash", "the daemon sets it aside when it starts")
    if report.first is None:
        return ok("the log has no line yet")
    since = "" if report.starts_at_genesis else f", lines before {report.first} are not here"
    if report.pruned is not None:
        since = f", those up to {report.pruned.last} were pruned"
    if report.missing is not None:
        since += f", and {report.missing[0]} to {report.missing[1]} are not here"
    return ok(f"{plural(report.lines, 'line')} in {plural(len(report.files), 'file')}, up to {report.last}{since}")


def _verified(context: Context) -> Report:
    """Verify the log. While a daemon runs it may be rotated: what looks broken then is looked at once more."""
    for path in find_files(context.created.audit):
        path.open("rb").close()  # PermissionError before any line is verified
    with counter("verifying the log") as count:
        try:
            return verify_files(find_files(context.state.audit), None, count)
        except (ChainBroken, FileNotFoundError):
            if context.holder is None:
                raise
            return verify_files(find_files(context.state.audit), None, count)


def public_key(context: Context) -> Finding:
    """See that audit.sign.pub is the key that signs, and that the running daemon says so."""
    state = context.created
    state.sign_key.open("rb").close()  # PermissionError, which is nothing that has to be put back
    try:
        key_files = EventKeyFiles.beside(state.audit)
        candidates = key_files.candidates()
    except KeyFileError as error:
        return failure(str(error), "put it back from its backup")
    key = (
        in_force(candidates, newest_line(state.audit), [one.key for one in key_files.load_past()]) or candidates[0]
    ).public
    if not _publishes(state.sign_pub, key):
        return failure(
            f"{state.sign_pub} is missing, or not the key that signs: nobody can verify the log with it",
            f"openssl pkey -in {state.sign_key} -pubout -out {state.sign_pub} && chmod 644 {state.sign_pub}",
        )
    named = _keys_of_daemon(context)
    if named is not None and key.keyid not in named:
        return failure(
            f"the daemon at {context.url} signs with another key than {state.sign_key}",
            "is that the daemon of this configuration? Name the right one with --config or --url",
        )
    return ok(f"{state.sign_pub} is the key that signs, {key.keyid}")


def _publishes(path: Path, key: VerifyKey) -> bool:
    """Tell whether the file, of one PEM or more, begins with the key."""
    try:
        return key == keys_in(path.read_bytes())[0]
    except (FileNotFoundError, ValueError, IndexError):
        return False


def _keys_of_daemon(context: Context) -> set[str] | None:
    """Return the ids of the keys that the daemon says are its own, None when it can't be asked."""
    try:
        _ = context.health
        answer = context.session.get("/keys").json()
        return {str(jwk.get("kid")) for jwk in answer["keys"]}
    except (Skip, Failed, KeyError, TypeError, AttributeError):
        return None


CHECKS: Final = (
    Check("chain", "Does the audit log verify, line by line?", chain, shows_progress=True),
    Check("public-key", "Is audit.sign.pub the key that signs?", public_key),
)
