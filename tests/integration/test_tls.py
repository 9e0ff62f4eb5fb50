"""HTTP over TLS: served with a certificate, to certified clients only where told, and required beyond loopback."""

from __future__ import annotations

import hashlib
import secrets
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.http import tcp, tls
from tests.support.tls import make_server_certificate
from tests.support.waiting import eventually

New = Callable[..., Daemon]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return make_server_certificate(tmp_path)


def with_tls(new_daemon: New, files: dict[str, Path], **server: str) -> Daemon:
    certificates = {"tls_cert": str(files["certfile"]), "tls_key": str(files["keyfile"])}
    daemon = new_daemon(config={"server": {**certificates, **server}})
    files["keyfile"].chmod(0o600)
    daemon.authority = files["cafile"]
    return daemon


def test_the_tcp_listener_speaks_tls_and_nothing_else(new_daemon: New, files: dict[str, Path]) -> None:
    daemon = with_tls(new_daemon, files).start()
    daemon.api.create("x", "v")
    assert daemon.api.value("x") == "v"
    with pytest.raises((OSError, ValueError)):
        tcp(daemon.port).get("/healthz")
    assert daemon.unix_api.value("x") == "v"


def test_old_versions_of_tls_are_refused(new_daemon: New, files: dict[str, Path]) -> None:
    daemon = with_tls(new_daemon, files).start()
    context = ssl.create_default_context(cafile=str(files["cafile"]))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", daemon.port)) as plain, pytest.raises(OSError):  # noqa: PT011  # any refusal
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_client_without_a_certificate_is_not_heard_where_one_is_asked_for(
    new_daemon: New, files: dict[str, Path]
) -> None:
    daemon = with_tls(new_daemon, files, tls_client_ca=str(files["cafile"])).spawn()
    eventually(lambda: daemon.unix_api.get("/healthz").status == 200, "the daemon serves")
    with pytest.raises(OSError):  # noqa: PT011  # ssl.SSLError or a reset, as the handshake's timing has it
        daemon.api.get("/healthz")


def test_beyond_loopback_it_takes_tls_a_word_and_proofs(new_daemon: New, files: dict[str, Path]) -> None:
    token = secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    daemon = with_tls(new_daemon, files)
    daemon.configure({"server": {"bind_addr": f"0.0.0.0:{daemon.port}"}, "security": {"deny_network_remote": False}})
    assert "backend" in daemon.refuses(78)
    daemon.write_policy(
        {"default_deny": True, "clients": {"admin": {"allow": ["*"], "auth": [{"token_sha256": digest}]}}}
    )
    daemon.start()
    api = tls(daemon.port, files["cafile"], token=token)
    assert api.create("x", "v")["version"] == 1
    daemon.terminate()
    daemon.configure({"security": {"deny_network_remote": True}})
    assert "deny_network_remote" in daemon.refuses(78)
