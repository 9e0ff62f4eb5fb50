"""`auth: [{socket: PATH}]` in the policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.config import load
from secretsd.errors import PolicyError
from secretsd.policy import SocketProof, check_exposure, parse


def test_a_socket_is_a_proof_with_an_owner() -> None:
    policy = parse(b"clients: {a: {allow: [x], auth: [{socket: /run/s/a.sock}]}}")
    assert policy.clients["a"].auth == (SocketProof(Path("/run/s/a.sock")),)
    assert policy.socket_owners == {Path("/run/s/a.sock"): "a"}
    assert policy.warnings == ()


@pytest.mark.parametrize(
    "path", ["a.sock", "/run/../a.sock", "/run//a.sock", "//run/a.sock", "/run/a.sock/", "7", '""']
)
def test_its_path_is_absolute_and_spelled_in_one_way(path: str) -> None:
    with pytest.raises(PolicyError, match=r"clients\.a\.auth\.socket: .*absolute path"):
        parse(f"clients: {{a: {{allow: [x], auth: [{{socket: {path}}}]}}}}".encode())


def test_two_proofs_are_two_entries() -> None:
    with pytest.raises(PolicyError, match="two proofs are two entries"):
        parse(b"clients: {a: {allow: [x], auth: [{socket: /run/a.sock, uid: 1}]}}")


def test_two_clients_do_not_share_a_socket() -> None:
    with pytest.raises(PolicyError, match=r"clients\.b\.auth: /run/a\.sock is the socket of a; give each its own"):
        parse(
            b"clients: {a: {allow: [x], auth: [{socket: /run/a.sock}]}, b: {allow: [x], auth: [{socket: /run/a.sock}]}}"
        )


def test_the_socket_for_everybody_is_no_clients_own(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('server.unix_socket_path = "/run/all.sock"')
    policy = parse(b"clients: {a: {allow: [x], auth: [{socket: /run/all.sock}]}}")
    with pytest.raises(PolicyError, match="which is for everybody; give a a socket of its own"):
        check_exposure(load(config, {}), policy)
