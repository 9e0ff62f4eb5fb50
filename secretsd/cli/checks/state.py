"""The files of the state: whether they are all there, whose they are, and whether the disk has room."""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secretsd.audit.logfiles import TORN_INFIX
from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, combined, failure, listed, plural, warning
from secretsd.daemon.firststart import StateFiles, is_first_start
from secretsd.daemon.modes import Allowed, found, of_state
from secretsd.errors import VaultError
from secretsd.files import TEMPORARY_SUFFIX

MIB: Final = 1024 * 1024
LITTLE_BYTES: Final = 256 * MIB
NONE_BYTES: Final = 16 * MIB
LITTLE_INODES: Final = 1000
NONE_INODES: Final = 32

_NEW: Final = re.compile(re.escape(TEMPORARY_SUFFIX) + r"\Z")
_TORN: Final = re.compile(re.escape(TORN_INFIX) + r"[0-9]+\Z")


def complete(context: Context) -> Finding:
    """See that keys, vault and log are all there, and that nothing was left half done."""
    state = context.state
    if not any(state.present().values()):
        return warning(
            "there is no vault yet", f"jarvis-secretsd --config {context.config_path}   # the first start makes one"
        )
    findings = []
    try:
        if is_first_start(state):
            findings.append(
                warning("the first start was interrupted", f"jarvis-secretsd --config {context.config_path}")
            )
    except VaultError as error:
        return failure(" ".join(str(error).split()), *_ways_back(context))
    if state.restoring.exists():
        findings.append(
            failure("a restore was interrupted", f"secretsctl backup restore --resume --config {context.config_path}")
        )
    # While the daemon runs, a .new file is one that is just being written.
    if context.holder is None:
        left = [path for folder in _folders(state) for path in _matching(folder, _NEW)]
        findings += [warning(f"{path} is left over from an interrupted write", f"rm {path}") for path in left]
    findings += [
        warning(
            f"{path} holds a torn line of the log, which nobody was told of", f"rm {path}   # once somebody had a look"
        )
        for path in _matching(state.audit.parent, _TORN)
    ]
    return combined("keys, vault and log are there", findings)


def _ways_back(context: Context) -> list[str]:
    """Return how what is missing is brought back: the volume first, then the key, which the backup needs."""
    present, key = context.state.present(), context.state.master_key
    config = f"--config {context.config_path}"
    ways = [f"findmnt -T {folder}   # is its volume mounted?" for folder in _folders(context.state)]
    if not present[key]:
        ways.append(f"secretsctl recovery import RECOVERY-FILE --identity KEY {config}   # the daemon stopped")
    if not all(there for path, there in present.items() if path != key):
        ways.append(f"secretsctl backup restore BACKUP --identity KEY {config}   # the daemon stopped")
    return ways


def _folders(state: StateFiles) -> list[Path]:
    return sorted({state.vault.parent, state.master_key.parent, state.audit.parent})


def _matching(folder: Path, name: re.Pattern[str]) -> list[Path]:
    return sorted(path for path in folder.iterdir() if name.search(path.name)) if folder.is_dir() else []


SETTINGS: Final = Allowed(0o022, 0, "chmod go-w", "whoever can write it decides who may read")
CREDENTIAL: Final = Allowed(0o027, 0, "chmod g-wx,o-rwx", "it is a password or a private key")
SOCKET: Final = Allowed(0, 0o007, "chmod 660", "only the group of the socket should ask")


def modes(context: Context) -> Finding:
    """See that nobody else may use the files."""
    findings = []
    looked = 0
    for path, allowed in _placed(context):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            continue
        looked += 1
        finding = judge_mode(path, mode, allowed)
        if finding is not None:
            findings.append(finding)
    return combined(f"{plural(looked, 'file')} and folders, none open to others", findings)


def judge_mode(path: Path, mode: int, allowed: Allowed) -> Finding | None:
    """Judge one file's permissions; None where they are as they should be."""
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX and allowed is SETTINGS:
        return None  # in a sticky folder nobody can replace another's file
    if mode & allowed.never:
        return failure(found(path, mode, allowed), f"{allowed.change} {path}")
    if mode & allowed.rather_not:
        return warning(found(path, mode, allowed), f"{allowed.change} {path}")
    return None


def _placed(context: Context) -> Iterator[tuple[Path, Allowed]]:
    """Yield each file and folder with what is allowed for it; those of the configuration first."""
    config, state = context.config, context.state
    for settings in dict.fromkeys((config.source, config.security.rbac_policy_path)):
        yield settings, SETTINGS
        yield settings.parent, SETTINGS
    for credential in (config.bus.password_file, config.bus.key_file, config.server.tls_key):
        if credential is not None:
            yield credential, CREDENTIAL
    yield from of_state(state)
    if config.server.allow_unix_socket:
        yield config.server.unix_socket_path, SOCKET


def owners(context: Context) -> Finding:
    """See that one user owns the state, the one that the daemon runs as, and that nobody else owns the settings."""
    config, state = context.config, context.created
    files = [state.master_key, state.vault, state.sign_key, state.sign_pub, state.past_keys, state.audit]
    files += _folders(state)
    uids = {path: path.stat().st_uid for path in files if path.exists()}
    running = process_uid(context)
    owner = uids.get(state.vault, uids[min(uids)]) if running is None else running
    settings = [config.source, config.security.rbac_policy_path]
    return judge_owners(owner, uids, {path: path.stat().st_uid for path in settings if path.exists()})


def process_uid(context: Context) -> int | None:
    """Return whom the daemon runs as, None when it doesn't run here."""
    if context.holder is None:
        return None
    try:
        text = (context.proc / str(context.holder) / "status").read_text()
    except OSError:
        return None
    effective = re.search(r"^Uid:\s+[0-9]+\s+([0-9]+)", text, re.MULTILINE)
    return None if effective is None else int(effective[1])


def judge_owners(owner: int, state: dict[Path, int], settings: dict[Path, int]) -> Finding:
    """Judge who owns what; `owner` is whom the state should belong to."""
    who = user_name(owner)
    findings = [
        failure(f"{path} belongs to {user_name(uid)}, the state to {who}", f"chown {who}: {path}")
        for path, uid in state.items()
        if uid != owner
    ]
    findings += [
        failure(f"{path} belongs to {user_name(uid)}, who can change who may read what", f"chown root: {path}")
        for path, uid in settings.items()
        if uid not in {0, owner}
    ]
    return combined(f"all of the state belongs to {who}", findings)


def user_name(uid: int) -> str:
    """Return a user's name, the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@dataclass(frozen=True, slots=True)
class Room:
    """What is left on one file system. `inodes` is None where the file system counts none."""

    folders: tuple[Path, ...]
    free_bytes: int
    inodes: int | None


def disk(context: Context) -> Finding:
    """See that there is room for the log: without it no secret is released."""
    by_device: dict[int, list[Path]] = {}
    for folder in _folders(context.state):
        if folder.is_dir():
            by_device.setdefault(folder.stat().st_dev, []).append(folder)
    rooms = []
    for folders in by_device.values():
        space = os.statvfs(folders[0])
        inodes = space.f_favail if space.f_files else None
        rooms.append(Room(tuple(folders), space.f_bavail * space.f_frsize, inodes))
    return judge_room(rooms) if rooms else warning("the folders of the state don't exist yet")


def judge_room(rooms: Sequence[Room]) -> Finding:
    """Judge what is left where vault and log lie."""
    findings = []
    for room in rooms:
        where = listed([str(folder) for folder in room.folders])
        fix = f"df -h -i {room.folders[0]}   # then make room, or move the log to a larger volume"
        if room.free_bytes < LITTLE_BYTES:
            verdict = failure if room.free_bytes < NONE_BYTES else warning
            findings.append(verdict(f"{room.free_bytes // MIB} MiB are free at {where}", fix))
        if room.inodes is not None and room.inodes < LITTLE_INODES:
            verdict = failure if room.inodes < NONE_INODES else warning
            findings.append(verdict(f"{room.inodes} inodes are free at {where}", fix))
    free = min((room.free_bytes for room in rooms), default=0)
    return combined(f"{free // MIB:,} MiB are free where vault and log lie", findings)


CHECKS: Final = (
    Check("state", "Are keys, vault and log there, and nothing half done?", complete),
    Check("modes", "Are files and folders closed to others?", modes),
    Check("owners", "Does one user own the state, and nobody else the settings?", owners),
    Check("disk", "Is there room where vault and log lie?", disk),
)
