"""A course of rotations under load: the daemon, the broker, the database, the application, and who kills them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from secretsd_bus import parse_time

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.postgres import Postgres
from tests.support.waiting import eventually

SECRET: Final = "app_login"
ADMIN_SECRET: Final = "pg_admin_password"
CLIENT: Final = "application"
ROLES: Final = ("app_a", "app_b")
FIRST: Final = "the first password of the application"
CONVERGENCE_SECS: Final = 60.0
"""A client that hears nothing asks every 30 s; so much later it must have moved in any case."""

Victim = Literal["daemon", "database", "broker"]
VICTIMS: Final[tuple[Victim, ...]] = ("daemon", "database", "broker")


@dataclass
class Figures:
    """What a course came to, printed and asserted."""

    rotations: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    """Rotations that a start of the daemon found half done, and carried through."""
    logins: int = 0
    unreachable: int = 0
    refused: int = 0
    refused_by_server: int = 0
    retired_uses: int = 0
    queries: int = 0
    interrupted: int = 0

    def __str__(self) -> str:
        kills = ", ".join(f"{count} of the {victim}" for victim, count in sorted(self.kills.items())) or "none"
        return (
            f"{self.rotations} rotations, kills: {kills}, {self.resumed} taken up half done; {self.queries} queries, "
            f"{self.interrupted} interrupted by kills; "
            f"{self.logins} logins ({self.unreachable} found no server), {self.refused} refused "
            f"({self.refused_by_server} by the server's log), {self.retired_uses} uses of a retired password"
        )


class Running:
    """The application as a process."""

    def __init__(self, daemon: Daemon, postgres: Postgres) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="app-"))
        self._journal = self.folder / "journal"
        self._output = self.folder / "output"
        environment = {
            "PATH": os.environ["PATH"],
            "JARVIS_SECRETS_URL": f"unix://{daemon.socket_path}",
            "JARVIS_CLIENT_ID": CLIENT,
            "JARVIS_SECRETS_PUBKEY": str(daemon.public_key_path),
            "PG_CONNINFO": f"host=127.0.0.1 port={postgres.port} dbname=postgres sslmode=verify-full "
            f"sslrootcert={postgres.authority} connect_timeout=5",
            "PG_SECRET": SECRET,
            "PG_JOURNAL": str(self._journal),
        }
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.rotations.application"],
                env=environment,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).resolve().parents[2],
            )

    def notes(self) -> list[dict[str, Any]]:
        """Return what the application wrote down so far."""
        if not self._journal.exists():
            return []
        return [json.loads(line) for line in self._journal.read_text().rpartition("\n")[0].splitlines()]

    def output(self) -> str:
        return self._output.read_text()

    def works(self) -> bool:
        assert self._process.poll() is None, self.output()
        return any(note.get("login") == "ok" for note in self.notes())

    def end(self) -> None:
        """Let it finish what it does."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0, self.output()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Course:
    """Rotations one after another, each seen through before the next, some with a kill in the middle."""

    def __init__(self, daemon: Daemon, postgres: Postgres, broker: Broker, chance: random.Random) -> None:
        self.daemon = daemon
        self.postgres = postgres
        self.broker = broker
        self.figures = Figures()
        self._chance = chance

    def rotate(self, victim: Victim | None = None) -> None:
        """Carry one rotation through; a `victim` is killed at a random moment of it, and started again."""
        version = self._version()
        killer = threading.Thread(target=self._kill, args=(victim,)) if victim else None
        if killer is not None:
            killer.start()
        self._ask(f"rotation-{version}")
        if killer is not None:
            killer.join()
        eventually(lambda: self._arrived(version + 1), f"version {version + 1} is current", within=CONVERGENCE_SECS)
        eventually(lambda: self._in_use(version + 1), f"version {version + 1} is in use", within=CONVERGENCE_SECS)
        self.figures.rotations += 1

    def _ask(self, key: str) -> None:
        """Ask for the rotation until the daemon has taken it in: with one key it is one rotation."""

        def asked() -> bool:
            answer = self.daemon.api.post("/rotate", {"names": [SECRET]}, {"Idempotency-Key": key})
            assert answer.status in {200, 202, 503}, (answer.status, answer.body)
            return answer.status != 503

        eventually(asked, "the rotation is taken in", within=CONVERGENCE_SECS)

    def _kill(self, victim: Victim) -> None:
        threading.Event().wait(self._chance.uniform(0.0, 0.25))
        acts: dict[Victim, Callable[[], object]] = {
            "daemon": lambda: (self.daemon.sigkill(), self.daemon.start()),
            "database": lambda: (self.postgres.kill(), self.postgres.start()),
            "broker": lambda: (self.broker.kill(), self.broker.start()),
        }
        acts[victim]()
        self.figures.kills[victim] += 1

    def _version(self) -> int:
        found: int = self._about()["version"]
        return found

    def _about(self) -> dict[str, Any]:
        listed = self.daemon.api.get("/secrets").ok()["secrets"]
        found: dict[str, Any] = next(one for one in listed if one["name"] == SECRET)
        return found

    def _arrived(self, version: int) -> bool:
        about = self._about()
        return about["version"] == version and about.get("pending") is None

    def _in_use(self, version: int) -> bool:
        """Tell whether the application has acknowledged the version: its callback has run, the pool is another."""
        consumers = self.daemon.api.get(f"/secret/{SECRET}/consumers").ok()["consumers"]
        return any(one["client"] == CLIENT and one["acknowledged_version"] == version for one in consumers)

    def judge(self, application: Running) -> Figures:
        """Count what the application, the server and the audit log say."""
        figures, notes = self.figures, application.notes()
        logins = Counter(note["login"] for note in notes if "login" in note)
        figures.logins, figures.refused = logins["ok"], logins["refused"]
        figures.unreachable = logins["unreachable"]
        figures.refused_by_server = sum(self.postgres.failed_logins(role) for role in ROLES)
        retired = {
            event.data["retired_kid"]: event.time
            for event in self.daemon.verified_log()
            if event.type == "secret.retired"
        }
        figures.retired_uses = sum(
            1
            for note in notes
            if "login" in note and note["kid"] in retired and note["at"] > _seconds(retired[note["kid"]])
        )
        figures.resumed = _resumed([event.type for event in self.daemon.verified_log()])
        figures.queries, figures.interrupted = notes[-1]["queries"], notes[-1]["interrupted"]
        return figures


def _seconds(time: str) -> float:
    return parse_time(time) / 1000


def _resumed(types: Sequence[str]) -> int:
    """Return how many starts of the daemon lie between the begin of a rotation and its end."""
    under_way, found = False, 0
    for kind in types:
        if kind in {"secret.rotation_started", "secret.rotated"}:
            under_way = kind == "secret.rotation_started"
        elif kind == "daemon.started" and under_way:
            found += 1
    return found


@contextmanager
def running(daemon: Daemon, postgres: Postgres) -> Iterator[Running]:
    """Run the application until it is logged in, and end it with the block."""
    application = Running(daemon, postgres)
    try:
        eventually(application.works, "the application works", within=60)
        yield application
    finally:
        application.close()
