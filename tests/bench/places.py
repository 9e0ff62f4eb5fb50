"""Daemons to measure: with a vault of any size, made without asking the daemon ten thousand times."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec.structs import replace

from secretsd import config
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon.firststart import StateFiles, create_state, is_first_start
from secretsd.daemon.opening import load_keys
from secretsd.policy import SecretSettings
from secretsd.rotation.transitions import created
from secretsd.vault.document import Wishes
from secretsd.vault.vault import Vault
from tests.support.daemon import Daemon

POLICY = {"default_deny": True, "clients": {"admin": {"allow": ["*"], "deny": []}}}
PERIOD_MS = 90 * 86_400_000


def daemon(*, secrets: int = 0, bus: str | None = None, prefix: str = "bench", due_at_ms: int | None = None) -> Daemon:
    """Return a daemon (not started) whose vault holds `secrets` passwords, `n0` and so on.

    With `due_at_ms` (epoch) they rotate by themselves, all at that instant.
    """
    made = Daemon(policy=POLICY, bus=bus, prefix=prefix)
    if secrets:
        _fill(made, secrets, due_at_ms)
    return made


def resident_mb(made: Daemon) -> float:
    """Return the process's resident memory in MB (10^6 bytes)."""
    assert made.process is not None
    pages = int(Path(f"/proc/{made.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _fill(made: Daemon, count: int, due_at_ms: int | None) -> None:
    state = StateFiles(config.load(made.config_path))
    state.make_folders()
    if is_first_start(state):
        create_state(config.load(made.config_path), None)
    master, _ = load_keys(state, None)
    vault = Vault.load(state.vault, master)
    generation = vault.document.generation + 1
    start_ms = (due_at_ms or 1_790_000_000_000 + PERIOD_MS) - PERIOD_MS
    settings = SecretSettings(
        type="password",
        rotation="manual" if due_at_ms is None else "auto",
        rotation_ms=PERIOD_MS,
        grace_ms=86_400_000,
        jwks=False,
    )
    wishes = Wishes() if due_at_ms is None else Wishes(rotation="auto")
    records = {}
    for number in range(count):
        name = f"n{number}"
        first = vault.seal(name, 1, Sensitive(b"x" * 32), "utf-8", start_ms)
        records[name] = created(first, settings, wishes, generation)
    vault.write(vault.encode(replace(vault.document, generation=generation, secrets=records)))
