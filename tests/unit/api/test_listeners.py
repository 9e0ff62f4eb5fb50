from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from secretsd.api import bind
from secretsd.api.listeners import bind_tcp, bind_unix
from secretsd.config import Address
from secretsd.errors import EXIT_UNAVAILABLE, ListenError
from tests.unit.api.support import configured


def test_a_taken_port_is_a_refusal_that_names_it() -> None:
    with bind_tcp(Address("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(ListenError, match=rf"bind_addr 127\.0\.0\.1:{port}: taken") as caught:
            bind_tcp(Address("127.0.0.1", port))
    assert caught.value.exit_status == EXIT_UNAVAILABLE


def test_an_address_of_another_machine_is_a_refusal() -> None:
    with pytest.raises(ListenError, match="no address of this machine"):
        bind_tcp(Address("192.0.2.1", 0))


def test_a_port_can_be_had_again_at_once() -> None:
    with bind_tcp(Address("127.0.0.1", 0)) as first:
        address = Address("127.0.0.1", first.getsockname()[1])
        with socket.create_connection((address.host, address.port)):
            accepted, _ = first.accept()
            accepted.close()
    bind_tcp(address).close()


def test_ipv6_is_listened_on() -> None:
    with bind_tcp(Address("::1", 0)) as listener:
        assert listener.getsockname()[0] == "::1"


def test_connections_wait_from_the_moment_of_binding() -> None:
    with bind_tcp(Address("127.0.0.1", 0)) as listener:
        socket.create_connection(listener.getsockname()[:2], timeout=5).close()


def test_the_unix_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "made" / "s.sock"
    old = os.umask(0o077)
    try:
        with bind_unix(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
            assert os.umask(0o077) == 0o077
    finally:
        os.umask(old)


def test_a_socket_that_nobody_answers_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    bind_unix(path).close()
    assert path.is_socket()
    with bind_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_somebody_answers_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with bind_unix(path):
        with pytest.raises(ListenError, match="another process listens"):
            bind_unix(path)
        assert path.is_socket()


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("precious")
    with pytest.raises(ListenError, match="isn't a socket"):
        bind_unix(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("path", ["x" * 200, "no/such/s.sock"])
def test_an_impossible_path_is_a_refusal(tmp_path: Path, path: str) -> None:
    with pytest.raises(ListenError, match="unix_socket_path"):
        bind_unix(tmp_path / path)


def test_closing_takes_our_socket_away_and_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    config = configured(tmp_path, f'allow_unix_socket = true\nunix_socket_path = "{path}"')
    bind(config).close()
    assert not path.exists()
    ours = bind(config)
    path.unlink()
    with bind_unix(path):
        ours.close()
        assert path.is_socket()


def test_a_taken_unix_socket_gives_the_port_back(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with bind_tcp(Address("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = configured(tmp_path, f'allow_unix_socket = true\nunix_socket_path = "{path}"')
    config = replace(config, server=replace(config.server, bind_addr=Address("127.0.0.1", port)))
    with bind_unix(path):
        with pytest.raises(ListenError):
            bind(config)
        bind_tcp(Address("127.0.0.1", port)).close()
