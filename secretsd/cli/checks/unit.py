"""The daemon under systemd: what its unit keeps it from, and whether its user may use what it needs."""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secretsd import credentials
from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, combined, failure, plural, warning
from secretsd.cli.checks.state import process_uid, user_name

UNIT: Final = "jarvis-secretsd.service"
_ANSWER_SECS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the kernel says of the daemon's process."""

    uid: int
    no_new_privileges: bool
    capabilities: int
    """Those that it could ever have, as bits."""
    filtered: bool
    """Whether its system calls are."""
    system_is_writable: bool


def sandbox(context: Context) -> Finding:
    """See that the unit lets the daemon do no more than it has to."""
    if context.holder is None:
        raise Skip("the daemon doesn't run here, or this user can't see its process")
    process = context.proc / str(context.holder)
    unit = re.search(r"/([^/\n]+\.service)$", (process / "cgroup").read_text(), re.MULTILINE)
    if unit is None:
        raise Skip("the daemon doesn't run as a service of systemd")
    return judge_sandbox(unit[1], confinement((process / "status").read_text(), (process / "mountinfo").read_text()))


def confinement(status: str, mountinfo: str) -> Confinement:
    """Return what /proc/PID/status and mountinfo tell."""
    told = dict(re.findall(r"^(\w+):\s+(\S+)", status, re.MULTILINE))
    roots = [fields for fields in map(str.split, mountinfo.splitlines()) if fields[4:5] == ["/"]]
    return Confinement(
        uid=int(told.get("Uid", "0")),
        no_new_privileges=told.get("NoNewPrivs") == "1",
        capabilities=int(told.get("CapBnd", "0"), 16),
        filtered=told.get("Seccomp") == "2",
        # The last one mounted is the one that is seen.
        system_is_writable=not roots or "ro" not in roots[-1][5].split(","),
    )


def judge_sandbox(unit: str, found: Confinement) -> Finding:
    """Judge the confinement; each lack is a warning, since the daemon works all the same."""
    lacks = [
        (found.uid == 0, "it runs as root", "User=jarvis-secretsd"),
        (not found.no_new_privileges, "it may gain privileges", "NoNewPrivileges=yes"),
        (found.capabilities != 0, "it may have capabilities", "CapabilityBoundingSet="),
        (not found.filtered, "no system call is refused", "SystemCallFilter=@system-service"),
        (found.system_is_writable, "the system's files are not read-only for it", "ProtectSystem=strict"),
    ]
    missing = [(said, line) for lacking, said, line in lacks if lacking]
    if not missing:
        return combined(f"{unit} confines the daemon", [])
    return warning(
        f"{unit} leaves the daemon more than it needs: {', '.join(said for said, _ in missing)}",
        f"systemctl edit {unit}   # [Service] {', '.join(line for _, line in missing)}; then restart",
        "or take the shipped unit: deploy/install.sh (docs/systemd.md)",
    )


@dataclass(frozen=True, slots=True)
class Need:
    """A file that the daemon uses; `credential` is the name under which it may be handed over instead."""

    path: Path
    write: bool = False
    credential: str | None = None


def reach(context: Context) -> Finding:
    """See that the daemon's user may use its files, and is handed those that it may not read."""
    handed_over = named_credentials(unit_text())
    user = unit_user(unit_text()) if context.holder is None else process_uid(context)
    if user is None:
        raise Skip("the daemon doesn't run, and no unit says which user it will have")
    groups = _groups(user)
    needs = [need for need in needed(context) if need.path.exists()]
    findings = [
        judge_need(need, user, blocked)
        for need in needs
        if need.credential not in handed_over and (blocked := blocking(need, user, groups)) is not None
    ]
    return combined(f"{user_name(user)} may use all of {plural(len(needs), 'file')}", findings)


def judge_need(need: Need, uid: int, blocked: Path) -> Finding:
    """Judge a file that the daemon's user can't use, because of `blocked`: the file itself or a folder above it."""
    who = user_name(uid)
    what = f"{who} can't {'write' if need.write else 'read'} {need.path}"
    if need.credential is not None:
        return failure(
            f"{what}, and it isn't handed over as a credential",
            f"systemctl edit {UNIT}   # [Service] LoadCredential={need.credential}:{need.path}; then restart",
        )
    owner = user_name(blocked.stat().st_uid)
    if blocked == need.path.parent or (need.write and blocked.is_dir()):
        # A closed folder hides whose the files in it are. All of the state is the daemon's.
        return failure(f"{what}: {blocked} belongs to {owner}", f"chown -R {who}: {blocked}")
    if blocked == need.path:
        return failure(f"{what}: {blocked} belongs to {owner}", f"chown {who}: {blocked}")
    return failure(f"{what}: {blocked} is closed to it", f"chmod o+x {blocked}")


def needed(context: Context) -> Iterator[Need]:
    """Yield what the daemon reads and writes."""
    config, state = context.config, context.state
    yield Need(config.source, credential=credentials.CONFIG)
    yield Need(config.security.rbac_policy_path, credential=credentials.POLICY)
    for section, keys in (
        ("server", ("tls_cert", "tls_key", "tls_client_ca", "tls_client_certs")),
        ("bus", ("password_file", "ca_file", "cert_file", "key_file")),
    ):
        for key in keys:
            path = getattr(getattr(config, section), key)
            if path is not None:
                # A folder can't be handed over: its files would come under other names.
                yield Need(path, credential=None if path.is_dir() else credentials.of_key(section, key))
    for path in (state.master_key, state.sign_key, state.past_keys):
        yield Need(path)
    for path in (state.vault.parent, state.audit.parent, state.vault, state.audit, state.lock, state.cursor):
        yield Need(path, write=True)


def blocking(need: Need, uid: int, groups: Sequence[int]) -> Path | None:
    """Return what keeps a user from a file, the outermost first; None where nothing does."""
    if uid == 0:
        return None
    for folder in reversed(need.path.parents):
        if not _allows(folder.stat(), uid, groups, stat.S_IXOTH):
            return folder
    status = need.path.stat()
    bits = stat.S_IROTH | (stat.S_IWOTH if need.write else 0) | (stat.S_IXOTH if need.path.is_dir() else 0)
    return None if _allows(status, uid, groups, bits) else need.path


def _allows(status: os.stat_result, uid: int, groups: Sequence[int], bits: int) -> bool:
    """Tell whether the mode gives a user `bits` (those for others); access lists are not looked at."""
    if status.st_uid == uid:
        granted = status.st_mode >> 6
    elif status.st_gid in groups:
        granted = status.st_mode >> 3
    else:
        granted = status.st_mode
    return granted & bits == bits


def _groups(uid: int) -> Sequence[int]:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return []
    return [user.pw_gid, *(group.gr_gid for group in grp.getgrall() if user.pw_name in group.gr_mem)]


def unit_text() -> str:
    """Return the unit with its drop-ins, empty where there is none."""
    try:
        shown = subprocess.run(  # noqa: S603 — fixed words
            ["systemctl", "cat", UNIT],  # noqa: S607 — wherever this system has it
            capture_output=True,
            check=False,
            text=True,
            timeout=_ANSWER_SECS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return shown.stdout


def unit_user(text: str) -> int | None:
    """Return whom a unit runs as, None where it isn't known."""
    named = re.findall(r"^User=(\S+)$", text, re.MULTILINE)
    if not named:
        return None
    try:
        return int(named[-1]) if named[-1].isdecimal() else pwd.getpwnam(named[-1]).pw_uid
    except KeyError:
        return None


def named_credentials(text: str) -> Mapping[str, str]:
    """Return the credentials that a unit loads from files, by name; the last of a name counts."""
    return dict(re.findall(r"^LoadCredential(?:Encrypted)?=([^:\s]+):(/.*)$", text, re.MULTILINE))


CHECKS: Final = (
    Check("sandbox", "Does the unit let the daemon do no more than it has to?", sandbox),
    Check("reach", "May the daemon's user use its files, or is it handed them?", reach),
)
