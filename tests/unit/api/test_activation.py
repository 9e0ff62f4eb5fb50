"""Sockets passed by the service manager: only those that the configuration names are served."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from secretsd.api import bind
from secretsd.api.activation import Passed, take
from secretsd.config import Address, Config
from secretsd.errors import ListenError
from tests.unit.api.support import configured


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = configured(tmp_path, f'allow_unix_socket = true\nunix_socket_path = "{tmp_path / "s.sock"}"')
    return replace(made, server=replace(made.server, bind_addr=Address("127.0.0.1", 0)))


def listening_unix(path: Path, opened: ExitStack) -> socket.socket:
    one = opened.enter_context(socket.socket(socket.AF_UNIX))
    one.bind(str(path))
    one.listen()
    return one


def listening_tcp(opened: ExitStack, host: str = "127.0.0.1") -> socket.socket:
    one = opened.enter_context(socket.socket())
    one.bind((host, 0))
    one.listen()
    return one


def _unused(count: int) -> int:
    """Return the first of `count` descriptors in a row that this process, which runs other tests too, doesn't have."""
    open_ones = {int(one.name) for one in Path("/proc/self/fd").iterdir()}
    return next(first for first in range(200, 900) if open_ones.isdisjoint(range(first, first + max(1, count))))


def passed(config: Config, opened: ExitStack, *sockets: socket.socket, **environ: str) -> Passed:
    """Take sockets as systemd passes them: at consecutive descriptors, inheritable."""
    first = _unused(len(sockets))
    for number, one in enumerate(sockets):
        os.dup2(one.fileno(), first + number)
    given = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": "a:b", **environ}
    result = take(config, given, first=first)
    assert not [name for name in given if name.startswith("LISTEN_")]
    for one in (result.tcp, result.unix):
        if one is not None:
            opened.enter_context(one)
    return result


def test_both_kinds_are_taken_and_no_child_inherits_them(tmp_path: Path, config: Config, opened: ExitStack) -> None:
    result = passed(config, opened, listening_tcp(opened), listening_unix(tmp_path / "s.sock", opened))
    assert result.tcp is not None
    assert result.unix is not None
    for one in (result.tcp, result.unix):
        assert not one.get_inheritable()
        assert not one.getblocking()
    with socket.create_connection(result.tcp.getsockname()):
        result.tcp.accept()[0].close()


def test_what_was_passed_to_another_process_is_none_of_ours(config: Config) -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "2"}
    assert take(config, environ) == Passed()
    assert environ == {}
    assert take(config, {}) == Passed()


@pytest.mark.parametrize("count", ["", "x", "-1", "1000"])
def test_a_count_that_is_none_is_refused(config: Config, count: str) -> None:
    with pytest.raises(ListenError, match="LISTEN_FDS"):
        take(config, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})


def test_a_socket_elsewhere_than_configured_is_refused(tmp_path: Path, config: Config, opened: ExitStack) -> None:
    with pytest.raises(ListenError, match=r"passed a Unix socket at '.*other\.sock', but one at .*s\.sock is conf"):
        passed(config, opened, listening_unix(tmp_path / "other.sock", opened))
    with pytest.raises(ListenError, match=r"passed a socket on 127\.0\.0\.2:\d+, but server\.bind_addr is 127"):
        passed(config, opened, listening_tcp(opened, "127.0.0.2"))


def test_a_unix_socket_that_the_configuration_does_not_allow_is_refused(
    tmp_path: Path, config: Config, opened: ExitStack
) -> None:
    config = replace(config, server=replace(config.server, allow_unix_socket=False))
    with pytest.raises(ListenError, match="allow_unix_socket is false"):
        passed(config, opened, listening_unix(tmp_path / "s.sock", opened))


def test_two_of_a_kind_are_refused(config: Config, opened: ExitStack) -> None:
    with pytest.raises(ListenError, match="passed a socket"):
        passed(config, opened, listening_tcp(opened), listening_tcp(opened))


def test_what_does_not_listen_is_refused(config: Config, opened: ExitStack) -> None:
    datagram = opened.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    connected = opened.enter_context(socket.socket())
    for one in (datagram, connected):
        with pytest.raises(ListenError, match="isn't a listening stream socket"):
            passed(config, opened, one)


def test_a_passed_unix_socket_is_used_and_its_file_stays(
    tmp_path: Path, config: Config, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.sock"
    one = listening_unix(path, opened)
    monkeypatch.setattr("secretsd.api.activation.take", lambda _: Passed(unix=one))
    listeners = bind(config)
    assert listeners.unix is one
    listeners.close()
    assert path.is_socket()
