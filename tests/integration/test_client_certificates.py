"""A client certificate at a real daemon: who it is in the log, and how it ends, on open connections too."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from secretsd_client import SecretsClient, Settings

from tests.support.certificates import Certified, certified
from tests.support.daemon import COMMANDS, Daemon
from tests.support.http import tls
from tests.support.tls import make_server_certificate
from tests.support.waiting import eventually

New = Callable[..., Daemon]


def policy(*, backend: list[dict[str, Any]], operator: Certified) -> dict[str, Any]:
    rights = ["read", "write", "rotate", "delete", "audit"]
    return {
        "default_deny": True,
        "clients": {
            "admin": {"allow": ["*"], "can": rights, "auth": [{"cert_sha256": operator.sha256}]},
            "backend": {"allow": ["x"], "auth": backend},
        },
    }


@pytest.fixture
def operator(tmp_path: Path) -> Certified:
    """Self-signed: there is no authority for it."""
    return certified(tmp_path, "operator")


@pytest.fixture
def authority(tmp_path: Path) -> Certified:
    return certified(tmp_path, "authority", ca=True)


@pytest.fixture
def daemon(new_daemon: New, tmp_path: Path, operator: Certified, authority: Certified) -> Daemon:
    """A daemon on all addresses, where only certificates are asked for."""
    files = make_server_certificate(tmp_path)
    made = new_daemon(policy=policy(backend=[{"cert_subject": "CN=backend,O=home"}], operator=operator))
    made.configure(
        {
            "server": {
                "bind_addr": f"0.0.0.0:{made.port}", "tls_cert": str(files["certfile"]),
                "tls_key": str(files["keyfile"]), "tls_client_ca": str(authority.cert_file),
                "tls_client_certs": str(operator.cert_file),
            },
            "security": {"deny_network_remote": False, "require_client_auth": True},
        }
    )  # fmt: skip
    made.authority = files["cafile"]
    made.spawn()
    eventually(lambda: made.unix_api.get("/healthz").status == 200, "the daemon serves")
    tls(made.port, made.authority, certified=operator).create("x", "v")
    return made


@contextlib.contextmanager
def kept(daemon: Daemon, one: Certified) -> Iterator[Callable[[], int]]:
    """Give what asks for x, as backend, always on the same connection, and gives the status."""
    assert daemon.authority is not None
    connection = http.client.HTTPSConnection(
        "127.0.0.1", daemon.port, timeout=10, context=one.presented_to(daemon.authority)
    )
    connection.connect()
    first = connection.sock

    def ask() -> int:
        connection.request("GET", "/secret/x", headers={"X-Jarvis-Client": "backend"})
        answer = connection.getresponse()
        answer.read()
        assert connection.sock is first
        return answer.status

    yield ask
    connection.close()


def test_a_certificate_proves_its_client_beyond_loopback_and_the_log_says_so(
    daemon: Daemon, tmp_path: Path, authority: Certified, operator: Certified
) -> None:
    assert daemon.authority is not None
    backend = certified(tmp_path, "backend", by=authority, subject="CN=backend,O=home")
    other = certified(tmp_path, "other", by=authority, subject="CN=backend,O=elsewhere")
    assert tls(daemon.port, daemon.authority, client="backend", certified=backend).value("x") == "v"
    assert daemon.events("secret.read")[-1]["data"]["auth"] == "tls"
    for wrong in (other, operator):
        asked = tls(daemon.port, daemon.authority, client="backend", certified=wrong).get("/secret/x")
        asked.refused(401, "bad-credential")
    assert daemon.events("access.failed")[-1]["data"]["client"] == "backend"
    unix = daemon.unix_api.as_("backend").get("/secret/x")
    unix.refused(401, "bad-credential")


def test_a_certificate_that_is_taken_from_the_policy_proves_nothing_on_an_open_connection(
    daemon: Daemon, tmp_path: Path, authority: Certified, operator: Certified
) -> None:
    backend = certified(tmp_path, "backend", by=authority, subject="CN=backend,O=home")
    with kept(daemon, backend) as ask:
        assert ask() == 200
        for proofs, status in (
            ([{"cert_subject": "CN=backend,O=new"}], 401),
            ([{"cert_sha256": backend.sha256}], 200),
            ([{"cert_sha256": backend.sha256, "not_after": "2026-01-01T00:00:00Z"}], 401),
        ):
            daemon.write_policy(policy(backend=proofs, operator=operator))
            daemon.reload()
            eventually(lambda status=status: ask() == status, f"{proofs} is in force")  # type: ignore[misc]  # a default


def test_certificates_are_taken_anew_though_the_policy_is_refused(
    daemon: Daemon, tmp_path: Path, operator: Certified
) -> None:
    assert daemon.authority is not None
    renewed = certified(tmp_path, "operator")  # the same file, another key
    daemon.write_policy("clients: [")
    daemon.reload()
    eventually(lambda: daemon.events("policy.rejected"), "the policy is refused")
    asked = tls(daemon.port, daemon.authority, certified=renewed).get("/secret/x")
    asked.refused(401, "bad-credential")  # through the handshake, and nobody's in the policy that stays


def test_a_bad_certificate_is_refused_and_the_old_one_goes_on(daemon: Daemon, operator: Certified) -> None:
    assert daemon.authority is not None
    Path(daemon.config["server"]["tls_key"]).write_text("not a key")
    daemon.reload()
    eventually(lambda: "tls_key" in daemon.output(), "the refusal is logged")
    assert tls(daemon.port, daemon.authority, certified=operator).value("x") == "v"


def test_secretsctl_and_the_python_client_present_it(daemon: Daemon, operator: Certified) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "JARVIS_SECRETS_URL": f"https://127.0.0.1:{daemon.port}",
        "JARVIS_SECRETS_CA_FILE": str(daemon.authority),
        "JARVIS_CLIENT_ID": "admin",
    }

    def get(*options: str | Path) -> subprocess.CompletedProcess[str]:
        asked = [COMMANDS / "secretsctl", "get", "x", *options]
        return subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=60, check=False)

    without = get()
    assert (without.returncode, "JARVIS_CLIENT_CERT_FILE" in without.stderr) == (3, True)
    presented = get("--cert-file", operator.cert_file, "--key-file", operator.key_file)
    assert (presented.returncode, presented.stdout) == (0, "v")
    assert daemon.events("secret.read")[-1]["data"]["auth"] == "tls"
    environment |= {
        "JARVIS_CLIENT_CERT_FILE": str(operator.cert_file), "JARVIS_CLIENT_KEY_FILE": str(operator.key_file)
    }  # fmt: skip
    with SecretsClient(Settings.from_env(environment)) as client:
        assert client.get_secret("x") == "v"
