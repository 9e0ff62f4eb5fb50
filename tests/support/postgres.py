"""A real PostgreSQL: a cluster of its own with SCRAM, TLS by a test's authority, and a log that says everything."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.support.tls import make_server_certificate
from tests.support.waiting import eventually, free_port

INSTALLED: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps the server's programs, a folder for each major version; they are on no PATH."""
SUPERUSER: Final = "postgres"
SUPERUSER_PASSWORD: Final = "the superuser's first password"
FAILED_LOGIN: Final = "password authentication failed"

SETTINGS: Final = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{directory}'
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '{directory}/certfile.pem'
ssl_key_file = '{directory}/keyfile.pem'
# A killed process loses nothing that it wrote; only a machine that loses its power would.
fsync = off
shared_buffers = 16MB
max_connections = 60
logging_collector = off
log_statement = 'all'
log_connections = on
log_line_prefix = '%m [%p] %u '
log_min_messages = info
log_min_error_statement = info
# What a server may be set to say most: tests look for values in it.
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
log_min_duration_statement = 0
"""


def programs() -> Path | None:
    """Return the folder of `initdb` and `postgres`, of the newest version there is; None where there is none."""
    on_path = shutil.which("initdb")
    folders = sorted(INSTALLED.glob("*/bin"), key=lambda folder: int(folder.parent.name)) if INSTALLED.exists() else []
    if folders and (folders[-1] / "initdb").exists():
        return folders[-1]
    return Path(on_path).resolve().parent if on_path else None


needs_postgres: Final = pytest.mark.skipif(
    programs() is None, reason="PostgreSQL's server is not installed (Debian: postgresql)"
)
"""For tests and modules that start a server."""


def _owner() -> pwd.struct_passwd:
    """Return whom the server runs as: us; where we are root, an unprivileged user, for it refuses root."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


class Postgres:
    """A server that can be stopped, killed and started again on its port, with what it kept on disk.

    Every login over TCP or the socket needs a SCRAM password. Each statement, login and refused login is in `log`.
    """

    def __init__(self) -> None:
        found = programs()
        if found is None:
            pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
        self._programs = found
        self._owner = _owner()
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="pg-"))
        self.data = self.directory / "data"
        self.port = free_port()
        self.password = SUPERUSER_PASSWORD
        """The superuser's."""
        certificates = make_server_certificate(self.directory)
        certificates["keyfile"].chmod(0o600)
        self.authority = certificates["cafile"]
        """The PEM of the authority that signed the server's certificate (for 127.0.0.1)."""
        self._initialise()

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def failed_logins(self, user: str) -> int:
        """Return how often a login of `user` was refused for its password."""
        return self.log.count(f'{FAILED_LOGIN} for user "{user}"')

    def start(self) -> Postgres:
        """Start the server and wait until it serves queries."""
        eventually(self._started, "PostgreSQL serves queries", within=60)
        return self

    def stop(self) -> None:
        """Stop it in order (a fast shutdown: sessions are ended, all is written)."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End the server and all its sessions with SIGKILL, as a crash of the machine would."""
        if self._process is None or self._process.poll() is not None:
            return
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._signal(signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def close(self) -> None:
        """End it for good and remove its files."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def connect(self, user: str = SUPERUSER, password: str | None = None, **options: Any) -> psycopg.Connection[Any]:
        """Log in over TCP with the server's certificate verified. Raises psycopg.OperationalError."""
        wanted: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "dbname": "postgres",
            "user": user,
            "password": self.password if password is None else password,
            "sslmode": "verify-full",
            "sslrootcert": str(self.authority),
            "connect_timeout": 10,
            "autocommit": True,
        }
        return psycopg.connect(**(wanted | options))

    def execute(self, statement: str) -> None:
        """Run one statement as the superuser."""
        with self.connect() as connection:
            connection.execute(statement)

    def accepts(self, user: str, password: str) -> bool:
        """Tell whether `user` can log in with `password`. Raises what else goes wrong."""
        try:
            self.connect(user, password).close()
        except psycopg.OperationalError as error:
            if FAILED_LOGIN not in str(error):
                raise
            return False
        return True

    def _started(self) -> bool:
        # After a kill, sessions that are still ending hold the old shared memory: then the start is tried again.
        if self._process is None or self._process.poll() is not None:
            with (self.directory / "log").open("ab") as log:
                self._process = self._run("postgres", "-D", str(self.data), output=log)
        try:
            self.connect().close()
        except psycopg.OperationalError as error:
            raise AssertionError(f"{error}; the server's log ends: {self.log[-400:]}") from None
        return True

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(30)

    def _run(self, program: str, *arguments: str, output: Any) -> subprocess.Popen[bytes]:
        identity: dict[str, Any] = {}
        if os.getuid() == 0:
            identity = {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        return subprocess.Popen(
            [str(self._programs / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TZ": "UTC"},
            **identity,
        )

    def _initialise(self) -> None:
        password_file = self.directory / "pwfile"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password + "\n")
        for path in (self.directory, *self.directory.iterdir()):
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        made = self._run(
            "initdb",
            *("-D", str(self.data), "-U", SUPERUSER, "-A", "scram-sha-256", "--pwfile", str(password_file)),
            *("--no-sync", "-E", "UTF8", "--locale", "C.UTF-8"),
            output=subprocess.PIPE,
        )
        said, _ = made.communicate(timeout=120)
        assert made.returncode == 0, said.decode(errors="replace")
        password_file.unlink()
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS.format(port=self.port, directory=self.directory))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests of a run; they keep apart by roles of their own and leave it running."""
    running = Postgres().start()
    yield running
    running.close()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that a test may kill."""
    running = Postgres().start()
    yield running
    running.close()


@pytest.fixture
def new_role(postgres: Postgres) -> Callable[[str], str]:
    """Make roles that may log in with a given password; return their names, which no other test uses."""
    made = iter(range(1_000_000))

    def make(password: str) -> str:
        role = f"role_{os.urandom(4).hex()}_{next(made)}"
        postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        return role

    return make
