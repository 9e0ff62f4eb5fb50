"""An application as people write them: a pool of connections to PostgreSQL, whose login comes from the Python client.

Run as a program; the environment says where things are (JARVIS_* for the client, PG_* below). It works without a pause
until SIGTERM, and writes what happened, one JSON object a line, to the file PG_JOURNAL:

    {"login": "ok" | "refused" | "unreachable", "version": N, "kid": "…", "user": "…", "at": when it began}
    {"moved": N, "at": seconds}                    the pool was made anew for this version
    {"queries": N, "interrupted": N}               at the end
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Final, Self

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout
from secretsd_client import Secret, SecretsClient

NAME: Final = os.environ.get("PG_SECRET", "")
WORKERS: Final = 6
LIFETIME_SECS: Final = 0.5
"""How old a connection gets: so logins are as frequent as they are in a day of a real application."""
REFUSED: Final = ("password authentication failed", "is not permitted to log in", "does not exist")


class Journal:
    """What happened, a line each; written by any thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def note(self, **members: object) -> None:
        with self._lock:
            self._file.write(json.dumps({"at": time.time(), **members}) + "\n")


class UnderWay:
    """The logins that have begun and not ended, each with the version it uses (0: not known yet)."""

    def __init__(self) -> None:
        self._versions: dict[object, int] = {}
        self._changed = threading.Condition()

    def begin(self, login: object, version: int = 0) -> None:
        with self._changed:
            self._versions[login] = version

    def end(self, login: object) -> None:
        with self._changed:
            del self._versions[login]
            self._changed.notify_all()

    def wait_for_older(self, version: int) -> None:
        """Wait until none uses an older version; what a login fetches from now on is the new one."""
        with self._changed:
            self._changed.wait_for(lambda: all(one >= version for one in self._versions.values()), 30.0)


class Application:
    """The client, the pool on top of it, and the threads that work."""

    def __init__(self) -> None:
        self.journal = Journal(Path(os.environ["PG_JOURNAL"]))
        self.client = SecretsClient.from_env()
        self.under_way = UnderWay()
        self.stopping = threading.Event()
        self.counts = {"queries": 0, "interrupted": 0}
        self._lock = threading.Lock()
        application = self

        class Connection(psycopg.Connection[Any]):
            """Logs in with what is current at that moment."""

            @classmethod
            def connect(cls, conninfo: str = "", **options: Any) -> Self:
                this = object()
                application.under_way.begin(this)
                try:
                    secret = application.client.get(NAME)
                    application.under_way.begin(this, secret.version)
                    login = json.loads(secret.value)
                    about = {
                        "version": secret.version,
                        "kid": secret.kid,
                        "user": login["username"],
                        "at": time.time(),
                    }
                    try:
                        made = super().connect(conninfo, user=login["username"], password=login["password"], **options)
                    except psycopg.OperationalError as error:
                        refused = any(words in str(error) for words in REFUSED)
                        application.journal.note(login="refused" if refused else "unreachable", **about)
                        raise
                    application.journal.note(login="ok", **about)
                    return made
                finally:
                    application.under_way.end(this)

        self.pool = ConnectionPool(
            os.environ["PG_CONNINFO"],
            connection_class=Connection,
            kwargs={"autocommit": True},
            min_size=WORKERS,
            max_size=WORKERS,
            max_lifetime=LIFETIME_SECS,
            reconnect_timeout=1.0,
            open=False,
        )

    def run(self) -> None:
        self.client.on_change(NAME, self.moved)
        self.pool.open()
        workers = [threading.Thread(target=self.work) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        self.stopping.wait()
        for worker in workers:
            worker.join()
        self.pool.close()
        self.client.close()
        self.journal.note(**self.counts)

    def moved(self, secret: Secret) -> None:
        """Give up the connections of the login before; what works on one finishes first.

        When this returns the client tells the daemon that the version is in use, so no login with another may be left.
        """
        self.pool.drain()
        self.under_way.wait_for_older(secret.version)
        self.journal.note(moved=secret.version)

    def work(self) -> None:
        while not self.stopping.is_set():
            try:
                with self.pool.connection(timeout=5.0) as connection:
                    connection.execute("SELECT count(*) FROM generate_series(1, 100)").fetchone()
                outcome = "queries"
            except (psycopg.OperationalError, PoolTimeout):
                outcome = "interrupted"
            with self._lock:
                self.counts[outcome] += 1
            self.stopping.wait(0.002)


def main() -> None:
    application = Application()
    signal.signal(signal.SIGTERM, lambda *_: application.stopping.set())
    application.run()


if __name__ == "__main__":
    main()
