"""Who is asking: a token, a uid (Unix socket or loopback TCP), the header alone; and what proves nothing."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.http import tcp
from tests.support.waiting import eventually, free_port

OTHER_UID = 54321
TOKENS = {name: secrets.token_urlsafe(32) for name in ("tina", "first", "second", "late", "both", "urgent")}


def token(name: str, **more: str) -> dict[str, str]:
    return {"token_sha256": hashlib.sha256(TOKENS[name].encode()).hexdigest(), **more}


def reads_all(*auth: dict[str, Any]) -> dict[str, Any]:
    return {"allow": ["*"], "can": ["read", "audit"], "auth": list(auth)}


POLICY: dict[str, Any] = {
    "default_deny": True,
    "clients": {
        "admin": {"allow": ["*"]},
        "tina": reads_all(token("tina")),
        "twice": reads_all(token("first"), token("second", not_after="2999-01-01T00:00:00Z")),
        "late": reads_all(token("late", not_after="2020-01-01T00:00:00Z")),
        "me": reads_all({"uid": os.getuid()}),
        "other": reads_all({"uid": OTHER_UID}),
        "either": reads_all({"uid": os.getuid()}, token("both")),
    },
}

needs_root = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user"
)


FAILURES_AT_EASE = 1


@pytest.fixture(scope="module")
def daemons() -> Iterator[list[Daemon]]:
    """The daemons of this module, the newest last."""
    started: list[Daemon] = []
    yield started
    for daemon in started:
        daemon.close()


@pytest.fixture
def daemon(daemons: list[Daemon]) -> Daemon:
    """A daemon that few have failed with yet: guessing is slow, and these tests would wait for nothing else."""
    if not daemons or len(daemons[-1].events("access.failed")) > FAILURES_AT_EASE:
        daemons.append(Daemon(policy=POLICY).start())
        daemons[-1].directory.chmod(0o755)
        daemons[-1].api.create("x", "v")
    return daemons[-1]


def last_access(daemon: Daemon) -> Any:
    return daemon.lines()[-1]


def as_other_user(target: list[str]) -> int:
    """Ask with curl as another user of the system; return the status."""
    command = [
        "setpriv",
        f"--reuid={OTHER_UID}",
        f"--regid={OTHER_UID}",
        "--clear-groups",
        "curl",
        "-s",
        "-o",
        "/dev/null",
    ]
    asked = subprocess.run([*command, "-w", "%{http_code}", *target], capture_output=True, check=True)
    return int(asked.stdout)


# Without proof


def test_without_a_client_nobody_is_asking(daemon: Daemon) -> None:
    daemon.api.as_(None).get("/secrets").refused(401, "missing-client")


def test_a_client_that_the_policy_does_not_know_is_unknown(daemon: Daemon) -> None:
    daemon.api.as_("stranger").get("/secrets").refused(401, "unknown-client")
    assert daemon.events("access.failed")[-1]["data"]["client"] is None


def test_clients_names_are_told_apart_by_case(daemon: Daemon) -> None:
    daemon.api.as_("Admin").get("/secrets").refused(401, "unknown-client")


def test_the_header_alone_names_a_client_without_proofs_in_the_policy(daemon: Daemon) -> None:
    daemon.api.as_("admin").get("/secret/x").ok()
    assert last_access(daemon)["data"]["auth"] == "header"


def test_a_client_with_a_proof_in_the_policy_is_not_named_by_the_header_alone(daemon: Daemon) -> None:
    daemon.api.as_("tina").get("/secret/x").refused(401, "bad-credential")


def test_a_failed_proof_is_audited_with_the_clients_name_and_without_the_token(daemon: Daemon) -> None:
    planted = secrets.token_urlsafe(32)
    daemon.api.as_("tina", planted).get("/secret/x").refused(401, "bad-credential")
    failed = daemon.events("access.failed")[-1]["data"]
    assert failed["client"] == "tina"
    assert planted not in daemon.audit_path.read_text()


# Tokens


def test_a_token_proves_its_client(daemon: Daemon) -> None:
    daemon.api.as_("tina", TOKENS["tina"]).get("/secret/x").ok()
    read = last_access(daemon)["data"]
    assert (read["client"], read["auth"]) == ("tina", "token")


@pytest.mark.parametrize(
    "given",
    ["", "wrong", TOKENS["tina"][:-1], TOKENS["tina"] + "x", TOKENS["first"], TOKENS["tina"].swapcase()],
    ids=["empty", "wrong", "shortened", "lengthened", "another's", "in the other case"],
)
def test_any_other_token_does_not(daemon: Daemon, given: str) -> None:
    daemon.api.as_("tina", given).get("/secret/x").refused(401, "bad-credential")


def test_the_hash_in_the_policy_is_no_token(daemon: Daemon) -> None:
    digest = hashlib.sha256(TOKENS["tina"].encode()).hexdigest()
    daemon.api.as_("tina", digest).get("/secret/x").refused(401, "bad-credential")


def test_the_scheme_is_bearer_in_any_case_and_no_other(daemon: Daemon) -> None:
    api = daemon.api.as_("tina")
    api.get("/secret/x", {"Authorization": f"bearer {TOKENS['tina']}"}).ok()
    basic = base64.b64encode(f"tina:{TOKENS['tina']}".encode()).decode()
    api.get("/secret/x", {"Authorization": f"Basic {basic}"}).refused(401, "bad-credential")


def test_a_token_is_not_taken_from_the_query(daemon: Daemon) -> None:
    answer = daemon.api.as_("tina").get(f"/secret/x?access_token={TOKENS['tina']}")
    assert answer.status in (400, 401, 422)


def test_of_two_tokens_each_proves_the_client(daemon: Daemon) -> None:
    for name in ("first", "second"):
        daemon.api.as_("twice", TOKENS[name]).get("/secret/x").ok()


def test_a_token_ends_with_its_not_after(daemon: Daemon) -> None:
    daemon.api.as_("late", TOKENS["late"]).get("/secret/x").refused(401, "bad-credential")


def test_a_wrong_token_spoils_the_header_alone_too(daemon: Daemon) -> None:
    daemon.api.as_("admin", "wrong").get("/secret/x").refused(401, "bad-credential")


# The uid


def test_the_uid_of_the_unix_sockets_peer_proves_its_client(daemon: Daemon) -> None:
    daemon.unix_api.as_("me").get("/secret/x").ok()
    read = last_access(daemon)["data"]
    assert (read["client"], read["auth"], read["peer"]) == ("me", "uid", "unix")


def test_the_uid_of_another_user_does_not(daemon: Daemon) -> None:
    daemon.unix_api.as_("other").get("/secret/x").refused(401, "bad-credential")


def test_the_uid_that_owns_the_tcp_connection_proves_its_client(daemon: Daemon) -> None:
    daemon.api.as_("me").get("/secret/x").ok()
    read = last_access(daemon)["data"]
    assert (read["client"], read["auth"], read["peer"]) == ("me", "uid", "127.0.0.1")
    daemon.api.as_("other").get("/secret/x").refused(401, "bad-credential")


@needs_root
def test_another_user_of_the_system_is_who_it_is_on_tcp(daemon: Daemon) -> None:
    url = f"http://127.0.0.1:{daemon.port}/secret/x"
    assert as_other_user([url, "-H", "X-Jarvis-Client: other"]) == 200
    assert as_other_user([url, "-H", "X-Jarvis-Client: me"]) == 401


@needs_root
def test_another_user_of_the_system_is_who_it_is_on_the_unix_socket(daemon: Daemon) -> None:
    daemon.socket_path.chmod(0o666)
    target = ["--unix-socket", str(daemon.socket_path), "http://localhost/secret/x"]
    assert as_other_user([*target, "-H", "X-Jarvis-Client: other"]) == 200
    assert as_other_user([*target, "-H", "X-Jarvis-Client: me"]) == 401


def test_the_uid_is_found_for_ipv6_connections_too(new_daemon: Callable[..., Daemon]) -> None:
    try:
        port = free_port("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    daemon = new_daemon(policy=POLICY, config={"server": {"bind_addr": f"[::1]:{port}", "allow_unix_socket": False}})
    daemon.spawn()
    api = tcp(port, "::1")
    eventually(lambda: api.get("/healthz").status == 200, "the daemon serves on ::1")
    api.create("x", "v")
    api.as_("me").get("/secret/x").ok()
    assert last_access(daemon)["data"]["peer"] == "::1"
    api.as_("other").get("/secret/x").refused(401, "bad-credential")


def test_a_wrong_token_is_401_even_where_the_uid_fits(daemon: Daemon) -> None:
    for api in (daemon.unix_api, daemon.api):
        api.as_("me", "wrong").get("/secret/x").refused(401, "bad-credential")
        api.as_("either", "wrong").get("/secret/x").refused(401, "bad-credential")


def test_either_proof_is_enough(daemon: Daemon) -> None:
    daemon.api.as_("either").get("/secret/x").ok()
    assert last_access(daemon)["data"]["auth"] == "uid"
    daemon.api.as_("either", TOKENS["both"]).get("/secret/x").ok()
    assert last_access(daemon)["data"]["auth"] == "token"


# Without the header


@pytest.fixture(scope="module")
def headerless() -> Iterator[Daemon]:
    policy = {
        "default_deny": True,
        "clients": {
            "tina": {"allow": ["*"], "auth": [token("tina")]},
            "other": reads_all(token("first")),
            "me": reads_all({"uid": os.getuid()}),
            "weak": {"allow": ["*"], "can": ["read"]},
        },
    }
    with Daemon(policy=policy, config={"security": {"require_client_id_header": False}}) as running:
        running.api.as_("tina", TOKENS["tina"]).create("x", "v")
        yield running


def test_a_proof_alone_names_the_client_where_the_header_is_not_required(headerless: Daemon) -> None:
    headerless.api.as_(None, TOKENS["tina"]).get("/secret/x").ok()
    assert last_access(headerless)["data"]["client"] == "tina"
    headerless.unix_api.as_(None).get("/secret/x").ok()
    assert last_access(headerless)["data"]["client"] == "me"


def test_a_header_that_contradicts_the_proof_is_refused(headerless: Daemon) -> None:
    headerless.api.as_("other", TOKENS["tina"]).get("/secret/x").refused(401, "bad-credential")


def test_a_token_of_nobody_names_nobody(headerless: Daemon) -> None:
    headerless.api.as_(None, "wrong").get("/secret/x").refused(401, "bad-credential")


def test_the_header_is_required_unless_told_otherwise(daemon: Daemon) -> None:
    daemon.api.as_(None, TOKENS["tina"]).get("/secret/x").refused(401, "missing-client")


# What is written down


def test_a_read_is_on_record_with_all_that_matters(daemon: Daemon) -> None:
    answer = daemon.api.as_("tina", TOKENS["tina"]).get("/secret/x")
    event = last_access(daemon)
    assert event["type"] == "jarvis.secretsd.secret.read"
    assert event["subject"] == "x"
    data = event["data"]
    assert set(data) == {
        "client", "auth", "action", "name", "kid", "version", "outcome", "reason", "peer", "request_id"
    }  # fmt: skip
    assert data["request_id"] == answer.headers["X-Request-Id"]
    assert (data["name"], data["kid"], data["version"]) == ("x", answer.json()["kid"], 1)


def test_a_304_is_on_record_too(daemon: Daemon) -> None:
    kid = daemon.api.secret("x")["kid"]
    answer = daemon.api.get("/secret/x", {"If-None-Match": f'"{kid}"'})
    event = last_access(daemon)
    assert (answer.status, event["type"]) == (304, "jarvis.secretsd.secret.read")
    assert event["data"]["request_id"] == answer.headers["X-Request-Id"]


def test_a_listing_is_on_record(daemon: Daemon) -> None:
    answer = daemon.api.get("/secrets")
    event = last_access(daemon)
    assert event["type"] == "jarvis.secretsd.secret.listed"
    assert event["data"]["request_id"] == answer.headers["X-Request-Id"]


def test_a_denied_access_is_on_record_with_a_name_only_if_it_exists(
    new_daemon: Callable[..., Daemon],
) -> None:
    daemon = new_daemon().start()
    daemon.api.create("x", "v")
    guess = "hunter2-typed-into-the-wrong-field"
    for name, expected in (("x", "x"), (guess, None)):
        daemon.api.as_("backend").get(f"/secret/{name}").refused(403, "forbidden")
        denied = daemon.events("access.denied")[-1]["data"]
        assert (denied["client"], denied["name"], denied["count"]) == ("backend", expected, 1)
    assert guess not in daemon.audit_path.read_text()


def test_the_log_of_all_this_verifies(daemon: Daemon) -> None:
    assert len(daemon.verified_log()) == len(daemon.lines())


# Guessing


def test_guessing_is_slow_and_others_do_not_wait(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=POLICY).start()
    for number in range(7):
        daemon.api.as_("tina", f"guess-{number}").get("/secrets").refused(401, "bad-credential")
    guess = threading.Thread(target=daemon.api.as_("tina", "guess").get, args=("/secrets",))
    guess.start()
    started = time.monotonic()
    while guess.is_alive():
        assert daemon.api.get("/healthz").status == 200
        assert daemon.api.as_("admin").get("/secrets").status == 200
    assert time.monotonic() - started > 0.2
    guess.join()


def test_another_loopback_address_is_no_way_round_the_wait(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=POLICY).start()
    for number in range(10):
        daemon.api.as_("tina", f"guess-{number}").get("/secrets").refused(401, "bad-credential")
    started = time.monotonic()
    tcp(daemon.port, source="127.0.0.2", client="tina", token="guess").get("/secrets").refused(401, "bad-credential")
    assert time.monotonic() - started > 0.2


def test_a_storm_of_refusals_is_counted_and_not_written_line_by_line(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon().start()
    for _ in range(200):
        daemon.api.as_("backend").get("/secret/other").refused(403, "forbidden")
    daemon.terminate()
    denied = daemon.events("access.denied")
    assert len(denied) < 50
    assert sum(event["data"]["count"] for event in denied) == 200
