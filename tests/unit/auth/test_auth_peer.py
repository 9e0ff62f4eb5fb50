"""Which user is at the other end: with the kernel's own answers to real connections."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from secretsd.auth import procnet, sockdiag, uid_of_tcp_peer, uid_of_unix_peer
from secretsd.auth.endpoint import Endpoint, endpoint
from secretsd.auth.peer import TcpPeers, known_user
from secretsd.auth.sockdiag import SockDiag, SockDiagUnavailable

Look = Callable[[Any, Any], int | None]
OTHER_UID = 4242

CLIENT = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
with socket.socket(int(sys.argv[2])) as client:
    client.connect((sys.argv[3], int(sys.argv[4])))
    sys.stdin.read()
"""
UNIX_CLIENT = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[2])
    sys.stdin.read()
"""


def refuse() -> SockDiag:
    raise SockDiagUnavailable("not here")


@pytest.fixture(params=["netlink", "proc"])
def look(request: pytest.FixtureRequest) -> Iterator[Look]:
    if request.param == "proc":
        yield TcpPeers(refuse).uid
        return
    diag = SockDiag.open()

    def through_netlink(local: Any, remote: Any) -> int | None:
        own, peer = endpoint(local), endpoint(remote)
        return None if own is None or peer is None else diag.owner(peer, own)

    yield through_netlink
    diag.close()


def listening(stack: ExitStack, family: socket.AddressFamily, host: str) -> socket.socket:
    server = stack.enter_context(socket.socket(family))
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind((host, 0))
    server.listen()
    server.settimeout(10)
    return server


def connected(
    stack: ExitStack, family: socket.AddressFamily, host: str, client_host: str
) -> tuple[socket.socket, socket.socket]:
    server = listening(stack, family, host)
    client = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in client_host else socket.AF_INET))
    client.connect((client_host, server.getsockname()[1]))
    accepted, _ = server.accept()
    return stack.enter_context(accepted), client


def as_another_user(stack: ExitStack, program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Run `program`, which becomes OTHER_UID by itself: Python may lie where that user can't read."""
    command = [sys.executable, "-I", "-c", program, str(OTHER_UID), *arguments]
    return stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))


WAYS = [
    pytest.param(socket.AF_INET, "127.0.0.1", "127.0.0.1", id="IPv4"),
    pytest.param(socket.AF_INET6, "::1", "::1", id="IPv6"),
    pytest.param(socket.AF_INET6, "::", "127.0.0.1", id="IPv4 to a dual listener"),
    pytest.param(socket.AF_INET6, "::", "::ffff:127.0.0.1", id="mapped to a dual listener"),
    pytest.param(socket.AF_INET, "127.0.0.1", "::ffff:127.0.0.1", id="mapped to an IPv4 listener"),
    pytest.param(socket.AF_INET, "0.0.0.0", "127.3.2.1", id="elsewhere in 127/8"),
]


@pytest.mark.parametrize(("family", "host", "client_host"), WAYS)
def test_the_owner_of_a_loopback_connection_is_found(
    look: Look, family: socket.AddressFamily, host: str, client_host: str
) -> None:
    with ExitStack() as stack:
        accepted, _ = connected(stack, family, host, client_host)
        assert look(accepted.getsockname(), accepted.getpeername()) == os.getuid()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize(("family", "host", "client_host"), WAYS)
def test_the_clients_user_is_found_and_not_our_own(
    look: Look, family: socket.AddressFamily, host: str, client_host: str
) -> None:
    client_family = socket.AF_INET6 if ":" in client_host else socket.AF_INET
    with ExitStack() as stack:
        server = listening(stack, family, host)
        arguments = [str(int(client_family)), client_host, str(server.getsockname()[1])]
        process = as_another_user(stack, CLIENT, *arguments)
        accepted = stack.enter_context(server.accept()[0])
        assert look(accepted.getsockname(), accepted.getpeername()) == OTHER_UID
        assert look(accepted.getpeername(), accepted.getsockname()) == 0  # the other way round it is ours
        process.communicate()


def test_a_connection_that_its_client_has_closed_has_no_owner(look: Look) -> None:
    with ExitStack() as stack:
        accepted, client = connected(stack, socket.AF_INET, "127.0.0.1", "127.0.0.1")
        local, remote = accepted.getsockname(), accepted.getpeername()
        client.close()
        assert look(local, remote) is None


def test_a_connection_that_its_client_has_half_closed_has_no_owner(look: Look) -> None:
    with ExitStack() as stack:
        accepted, client = connected(stack, socket.AF_INET, "127.0.0.1", "127.0.0.1")
        client.shutdown(socket.SHUT_WR)
        assert look(accepted.getsockname(), accepted.getpeername()) is None


@pytest.mark.parametrize("which", [0, 1])
def test_a_listener_at_the_address_is_no_owner(look: Look, which: int) -> None:
    with ExitStack() as stack:
        family, host = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")][which]
        address = listening(stack, family, host).getsockname()
        assert look((host, 1), address) is None


def test_all_four_addresses_have_to_fit(look: Look) -> None:
    with ExitStack() as stack:
        accepted, _ = connected(stack, socket.AF_INET, "127.0.0.1", "127.0.0.1")
        (host, local), (_, remote) = accepted.getsockname(), accepted.getpeername()
        assert look((host, local), (host, remote)) is not None
        assert look((host, local ^ 1), (host, remote)) is None
        assert look((host, local), (host, remote ^ 1)) is None
        assert look(("127.0.0.2", local), (host, remote)) is None
        assert look((host, local), ("127.0.0.2", remote)) is None
        assert look(("::1", local), ("::1", remote)) is None


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        (("192.0.2.1", 1), ("192.0.2.2", 2)),
        (("127.0.0.1", 1), ("192.0.2.2", 2)),
        (("::1", 1, 0, 0), ("fe80::1%lo", 2, 0, 1)),
        (("::", 1, 0, 0), ("::", 2, 0, 0)),
        (("::ffff:192.0.2.1", 1, 0, 0), ("::ffff:127.0.0.1", 2, 0, 0)),
        ("", ""),
        ("/run/socket", ""),
    ],
)
def test_what_is_not_within_this_machine_has_no_owner(local: Any, remote: Any) -> None:
    assert uid_of_tcp_peer(local, remote) is None


@pytest.mark.parametrize("host", ["192.0.2.1", "10.0.0.1", "128.0.0.1", "::", "::2", "2001:db8::1", "::ffff:192.0.2.1"])
def test_an_address_of_the_network_is_no_end_of_a_connection_within_this_machine(host: str) -> None:
    assert endpoint((host, 80)) is None


@pytest.mark.parametrize(
    ("changed", "owner"),
    [
        ({}, 1001),
        ({"state": 8}, None),
        ({"inode": 0}, None),
        ({"here": Endpoint(b"\x7f\0\0\1", 3)}, None),
        ({"there": Endpoint(b"\x7f\0\0\2", 2)}, None),
    ],
    ids=["it", "closing", "held by nobody", "another port", "another address"],
)
def test_the_kernels_answer_counts_for_exactly_this_connection_while_somebody_has_it(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], owner: int | None
) -> None:
    here, there = Endpoint(b"\x7f\0\0\1", 1), Endpoint(b"\x7f\0\0\1", 2)
    found = sockdiag._Answer(sockdiag.ESTABLISHED, here, there, uid=1001, inode=7)._replace(**changed)
    diag = SockDiag()
    monkeypatch.setattr(diag, "_ask", lambda *_: found)
    assert diag.owner(here, there) == owner
    diag.close()


def test_addresses_are_compared_without_their_ipv6_dress() -> None:
    assert endpoint(("::ffff:127.0.0.1", 5, 0, 0)) == Endpoint(bytes([127, 0, 0, 1]), 5) == endpoint(("127.0.0.1", 5))


def test_proc_is_asked_where_netlink_is_refused_and_netlink_again_after_a_failure() -> None:
    opened: list[SockDiag] = []

    def open_diag() -> SockDiag:
        opened.append(SockDiag.open())
        return opened[-1]

    with ExitStack() as stack:
        accepted, _ = connected(stack, socket.AF_INET, "127.0.0.1", "127.0.0.1")
        addresses = accepted.getsockname(), accepted.getpeername()
        peers = TcpPeers(open_diag)
        stack.callback(peers.close)
        assert peers.uid(*addresses) == os.getuid()
        opened[0].close()
        assert peers.uid(*addresses) == os.getuid()
        assert len(opened) == 1
        assert peers.uid(*addresses) == os.getuid()
        assert len(opened) == 2


def test_without_proc_and_netlink_nothing_is_proven(tmp_path: Path) -> None:
    one = Endpoint(bytes([127, 0, 0, 1]), 1)
    assert procnet.owner(one, one, tmp_path) is None


def test_a_line_of_proc_counts_only_established_and_with_an_inode(tmp_path: Path) -> None:
    line = "   0: 0100007F:0001 0100007F:0002 {} 00000000:00000000 00:00000000 00000000  1001        0 {} 1 0000\n"
    here, there = Endpoint(bytes([127, 0, 0, 1]), 1), Endpoint(bytes([127, 0, 0, 1]), 2)
    for state, inode, owner in (("01", 77, 1001), ("01", 0, None), ("06", 77, None), ("0A", 77, None)):
        (tmp_path / "tcp").write_text("header\n" + line.format(state, inode), encoding="ascii")
        assert procnet.owner(here, there, tmp_path) == owner
        assert procnet.owner(there, here, tmp_path) is None


def test_the_numbers_for_none_and_for_unknown_users_are_nobodys() -> None:
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    assert known_user(overflow) is None
    assert known_user(2**32 - 1) is None
    assert known_user(None) is None
    assert (known_user(0), known_user(1001)) == (0, 1001)


def test_the_user_at_a_unix_socket_is_the_one_who_connected(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert uid_of_unix_peer(ours) == os.getuid()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_user_at_a_unix_socket_is_told_apart(short_folder: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        path = short_folder / "socket"
        server.bind(str(path))
        path.chmod(0o666)
        server.listen()
        server.settimeout(10)
        process = as_another_user(stack, UNIX_CLIENT, str(path))
        accepted = stack.enter_context(server.accept()[0])
        assert uid_of_unix_peer(accepted) == OTHER_UID
        process.communicate()


def test_a_tcp_socket_tells_no_user_by_itself() -> None:
    with ExitStack() as stack:
        accepted, _ = connected(stack, socket.AF_INET, "127.0.0.1", "127.0.0.1")
        assert uid_of_unix_peer(accepted) is None


@pytest.fixture
def short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="peer-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
