"""Clients that are many, slow, silent or shameless: others are served meanwhile, and nothing grows without bound."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.daemon.load import Load
from tests.support.daemon import Daemon
from tests.support.http import raw_exchange
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

New = Callable[..., Daemon]
Figure = Callable[[str, object], None]
MIB = 1024
"""In the kernel's KiB."""


def resident_kib(daemon: Daemon) -> int:
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


def answered_secs(daemon: Daemon) -> float:
    """How long a new client waits for a secret."""
    began = time.monotonic()
    assert daemon.api.value("x") == "v"
    return time.monotonic() - began


@pytest.fixture
def daemon(new_daemon: New) -> Daemon:
    daemon = new_daemon().start()
    daemon.api.create("x", "v")
    return daemon


@contextlib.contextmanager
def connections(daemon: Daemon, count: int, say: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections that send `say` and nothing more."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(stack.enter_context(socket.socket()))
            opened[-1].settimeout(20)
            # The kernel must not take in place of who doesn't read.
            opened[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened[-1].connect(("127.0.0.1", daemon.port))
            if say:
                opened[-1].sendall(say)
        yield opened


def ended(connection: socket.socket) -> bool:
    """Tell whether the daemon has closed the connection."""
    connection.setblocking(False)
    try:
        return connection.recv(4096) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


# Many


def allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"RLIMIT_NOFILE is {hard} here, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


@pytest.mark.slow
@pytest.mark.parametrize("say", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["new", "kept alive"])
def test_ten_thousand_idle_connections_keep_nobody_waiting(daemon: Daemon, figure: Figure, say: bytes) -> None:
    allow_descriptors(12_000)
    before = resident_kib(daemon)
    with connections(daemon, 10_000, say) as idle:
        waits = [answered_secs(daemon) for _ in range(20)]
        grown = resident_kib(daemon) - before
        figure("grown_mib", round(grown / MIB))
        figure("median_ms", round(sorted(waits)[10] * 1000, 1))
        assert sorted(waits)[10] < 0.5
        assert grown < 400 * MIB
        if not say:
            assert not any(map(ended, idle[:100]))
    assert answered_secs(daemon) < 5
    assert daemon.api.get("/healthz").status == 200


def test_where_descriptors_run_out_the_longest_idle_makes_room(new_daemon: New) -> None:
    daemon = new_daemon(wrap=["prlimit", "--nofile=400:400"]).start()
    daemon.api.create("x", "v")
    with connections(daemon, 600) as idle:
        eventually(lambda: ended(idle[0]), "the first idle one is closed")
        for _ in range(20):
            assert answered_secs(daemon) < 5
        assert not ended(idle[-1])
    daemon.api.update("x", "w")
    daemon.verified_log()


# Slow


@pytest.fixture
def long_log(daemon: Daemon) -> Daemon:
    """A daemon whose audit log makes an answer of more megabytes than the kernel takes."""
    with Load(daemon, "x") as load:
        for _ in range(4):
            load.wait_released(2500)
    assert len(daemon.api.get("/audit?limit=10000").body) > 5_000_000
    return daemon


AUDIT = b"GET /audit?limit=10000 HTTP/1.1\r\nHost: localhost\r\nX-Jarvis-Client: admin\r\n\r\n"


def test_readers_that_never_read_keep_nobody_waiting(long_log: Daemon, figure: Figure) -> None:
    before = resident_kib(long_log)
    with connections(long_log, 20, AUDIT):
        waits = [answered_secs(long_log) for _ in range(50)]
        assert sorted(waits)[25] < 0.5
        # At worst each holds its answer of 6 MB, and what is made from it on its way out.
        grown = resident_kib(long_log) - before
        figure("grown_mib", round(grown / MIB))
        assert grown < 20 * 20 * MIB
    assert answered_secs(long_log) < 5


@pytest.mark.slow
def test_readers_that_never_read_are_dropped(long_log: Daemon) -> None:
    with connections(long_log, 10, AUDIT):
        eventually(lambda: "connections were dropped" in long_log.output(), "they are dropped", within=60)
        assert answered_secs(long_log) < 5


HALF_A_HEAD = b"GET /secret/x HTTP/1.1\r\nHost: localhost\r\nX-Jarvis-Cli"


def test_heads_that_never_end_keep_nobody_waiting(daemon: Daemon) -> None:
    with connections(daemon, 300, HALF_A_HEAD) as slow:
        for byte in b"ent: admin":
            for connection in slow:
                connection.send(bytes([byte]))
            assert answered_secs(daemon) < 5
        slow[0].sendall(b"\r\nConnection: close\r\n\r\n")
        assert b'"value":"v"' in slow[0].recv(65536)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_heads_that_never_end_are_dropped(daemon: Daemon) -> None:
    with connections(daemon, 10, HALF_A_HEAD) as slow:
        began = time.monotonic()

        def dropped() -> bool:
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(b"-")  # a byte now and then, so that it doesn't look dead
            time.sleep(1)
            return all(map(ended, slow))

        eventually(dropped, "they are dropped", within=200)
        assert time.monotonic() - began < 180


# Shameless


@pytest.mark.parametrize(
    "head",
    [
        b"GET /secret/x HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"a" * 20_000 + b"\r\n",
        b"GET /secret/x HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(500)),
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /secret/x HTTP/1.1\r\nHost: localhost\r\n" + b"a" * 20_000 + b": b\r\n",
        b"GET /secret/x HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"a" * 2_000_000 + b"\r\n",
        b"GET /secret/x HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 100_000,
    ],
    ids=[
        "a header of 20 kB",
        "500 headers",
        "a path of 20 kB",
        "a name of 20 kB",
        "a header of 2 MB",
        "100,000 headers",
    ],
)
def test_a_huge_head_is_refused_and_breaks_nothing(daemon: Daemon, head: bytes) -> None:
    before = resident_kib(daemon)
    for _ in range(5):
        answer = b""
        with contextlib.suppress(ConnectionError):  # refused before all of it was sent
            answer = raw_exchange(daemon.port, head + b"X-Jarvis-Client: admin\r\nConnection: close\r\n\r\n")
        if answer:
            assert answer.split(b" ", 2)[1] in {b"400", b"414", b"431"}
    assert answered_secs(daemon) < 5
    assert resident_kib(daemon) - before < 50 * MIB
    assert "Traceback" not in daemon.output()


def test_bytes_that_are_no_http_break_nothing(daemon: Daemon) -> None:
    for noise in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x00" * 1000,
        b"\r\n\r\n" * 1000,
        b"GET",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while connection.recv(65536):
                    pass
    assert answered_secs(daemon) < 5
    assert "Traceback" not in daemon.output()
