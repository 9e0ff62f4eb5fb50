"""The daemon: `jarvis-secretsd --config FILE` serves until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Final

from secretsd import api, config, policy
from secretsd.daemon import harden, logs
from secretsd.daemon.collisions import refuse_collisions
from secretsd.daemon.daemon import Daemon
from secretsd.daemon.firststart import StateFiles
from secretsd.daemon.opening import open_state
from secretsd.errors import StartupError
from secretsd.service.reads import VERSION
from secretsd.vault.store import Lock

log = logging.getLogger(__name__)

SWITCH_SECONDS: Final = 0.0002
DEFAULT_CONFIG: Final = Path("/etc/jarvis-secretsd/config.toml")


def main() -> None:
    """Run the daemon and exit: 0 after SIGTERM, 69 no socket, 75 vault locked, 78 bad config, policy, key or vault."""
    status = serve(parser().parse_args().config)
    logs.let_go()
    sys.exit(status)


def serve(path: Path) -> int:
    """Serve under the configuration in `path` until told to stop; return the exit status."""
    # Until the loop takes them over: a reload that is asked for meanwhile waits, instead of ending the daemon, and who
    # stops it finds nothing begun.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = config.load(path)
        refuse_collisions(settings)
        logs.set_up(settings.logging)
        harden.harden()
        # Two threads wait for the disk and want the interpreter back for moments only; five milliseconds, Python's
        # default, would be many times what they wait for.
        sys.setswitchinterval(SWITCH_SECONDS)
        rules = policy.load(settings.security.rbac_policy_path, settings)
        state = StateFiles(settings)
        state.make_folders()
        lock = Lock(state.lock)
        listeners = api.bind(settings, rules.socket_owners)
        try:
            _run(Daemon(settings, rules, open_state(settings), listeners).run())
        finally:
            listeners.close()
            lock.release()
    except StartupError as error:
        print(f"secretsd: {error}", file=sys.stderr)  # noqa: T201 — logging may not be set up
        return error.exit_status
    return 0


def _run(main_coroutine: Coroutine[object, object, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415 — where it installs
    except ImportError:
        asyncio.run(main_coroutine)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main_coroutine)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line; the man page is made of it too."""
    made = argparse.ArgumentParser(
        prog="jarvis-secretsd",
        description="Serves secrets to the clients that the policy allows them to, and says over MQTT what changed.",
        epilog="Signals: HUP takes up policy, log and certificates anew, TERM ends in order. Exit: 0 after TERM, "
        "69 no socket, 75 another daemon has the vault, 78 bad configuration, policy, key or vault.",
    )
    made.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"the configuration (default: {DEFAULT_CONFIG})",
    )
    made.add_argument("--version", action="version", version=f"jarvis-secretsd {VERSION}")
    return made
