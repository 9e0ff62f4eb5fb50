"""doctor: what the daemon says, and the log without it."""

from __future__ import annotations

import fcntl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from secretsd_bus import Chain, SigningKey

from secretsd.cli.checks.laggards import judge_laggards
from secretsd.cli.checks.service import (
    judge_bus,
    judge_counts,
    judge_expiries,
    judge_health,
    judge_owed,
    judge_rotations,
)
from secretsd.model import Health, Metadata, PendingRotation
from secretsd.service.reads import VERSION
from tests.unit.cli.fake_daemon import FakeDaemon
from tests.unit.cli.installation import Installation

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path).start_first()


def health(**facts: Any) -> Health:
    return Health(
        **{
            "status": "ok", "version": VERSION, "uptime_secs": 60, "secrets_count": 3, "bus": "connected",
            "clock": "ok", "reason": None, **facts,
        }
    )  # fmt: skip


def secret(name: str, expires_at: str = "9999-12-31T23:59:59.999Z", **facts: Any) -> Metadata:
    return Metadata(
        **{
            "name": name, "version": 1, "kid": "k" * 16, "type": "password", "status": "active", "rotation": "manual",
            "created_at": "2026-01-01T00:00:00.000Z", "expires_at": expires_at, "previous": None, "generation": 1,
            **facts,
        }
    )  # fmt: skip


def test_a_daemon_that_serves_is_in_order(place: Installation) -> None:
    with FakeDaemon() as daemon:
        daemon.health["version"] = VERSION
        finding = place.look("daemon", url=daemon.url)
    assert (finding.status, daemon.url in finding.found) == ("ok", True)


def test_a_stopped_daemon_is_a_warning_and_skips_what_needs_it(place: Installation) -> None:
    assert place.look("daemon").status == "warning"
    for check in ("audit-writes", "expiries", "laggards", "bus", "owed", "patterns"):
        assert place.look(check).status == "skipped", check


def test_a_daemon_that_has_the_vault_and_does_not_answer_fails(place: Installation) -> None:
    with place.state.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finding = place.look("daemon")
    assert (finding.status, "doesn't answer" in finding.found) == ("failure", True)


def test_what_the_daemon_says_of_itself_is_judged() -> None:
    assert judge_health(health(), "u").status == "ok"
    assert judge_health(health(version="0.0.1"), "u").status == "warning"
    unwell = judge_health(health(status="unavailable", reason="the log can't be written"), "u")
    assert (unwell.status, "the log can't be written" in unwell.found) == ("failure", True)


@pytest.mark.parametrize(("bus", "status"), [("connected", "ok"), ("denied", "failure"), ("disconnected", "failure")])
def test_the_daemons_view_of_the_bus_is_judged(bus: str, status: str) -> None:
    assert judge_bus(health(bus=bus), "p", enabled=True).status == status


def test_a_daemon_that_runs_under_an_older_configuration_shows() -> None:
    assert judge_bus(health(bus="disabled"), "p", enabled=True).status == "warning"


def test_a_long_backlog_is_a_warning() -> None:
    assert judge_owed({"changes": 0, "audit": 12}).status == "ok"
    assert judge_owed({"changes": 0, "audit": 120_000}).status == "warning"


def test_secrets_far_from_their_expiry_are_in_order() -> None:
    assert judge_expiries([secret("a"), secret("b", "2027-12-01T00:00:00.000Z")], NOW).status == "ok"


def test_expired_and_expiring_secrets_are_named_with_the_command_that_renews_them() -> None:
    finding = judge_expiries(
        [
            secret("db_password", "2026-12-01T00:00:00.000Z", status="expired"),
            secret("x_api_key", "2027-01-03T00:00:00.000Z", status="expiring", type="external"),
        ],
        NOW,
    )
    assert finding.status == "warning"
    assert finding.fixes[0] == "secretsctl rotate db_password"
    assert finding.fixes[1].startswith("secretsctl put x_api_key")


def test_a_secret_that_should_have_rotated_by_itself_fails() -> None:
    due = secret("jwt_signing_key", "2026-12-31T23:00:00.000Z", rotation="auto", status="expired")
    just_now = secret("jwt_signing_key", "2026-12-31T23:59:50.000Z", rotation="auto", status="expired")
    soon = secret("jwt_signing_key", "2027-01-02T00:00:00.000Z", rotation="auto", status="expiring")
    assert judge_expiries([due], NOW).status == "failure"
    assert judge_expiries([just_now, soon], NOW).status == "ok"


def test_a_rotation_that_waits_for_its_window_is_in_order_until_it_is_called_expired() -> None:
    waits = secret("db_password", "2026-12-30T02:00:00.000Z", rotation="auto", status="active")
    assert judge_expiries([waits], NOW).status == "failure"
    assert judge_expiries([waits], NOW, {"db_password"}).status == "ok"
    too_long = secret("db_password", "2026-12-20T02:00:00.000Z", rotation="auto", status="expired")
    finding = judge_expiries([too_long], NOW, {"db_password"})
    assert (finding.status, finding.fixes[-1]) == ("failure", "secretsctl rotate db_password")


def test_without_names_the_numbers_are_judged() -> None:
    assert judge_counts({"expired": 0, "expiring": 0}, "").status == "ok"
    assert judge_counts({"expired": 1, "expiring": 0}, "no client").status == "warning"


def test_expiries_say_how_much_the_client_may_see(place: Installation) -> None:
    with FakeDaemon() as daemon:
        daemon.plant("a", "planted-value", status="expired", expires_at="2026-01-01T00:00:00.000Z")
        finding = place.look("expiries", url=daemon.url, client="admin")
    assert "of the 1 of 2" in finding.found
    assert "planted-value" not in str(finding)


# The log


def written(place: Installation, lines: int) -> None:
    """Put lines into the log, as the installation's key signs them."""
    key = SigningKey.from_pem(place.state.sign_key.read_bytes())
    chain = Chain(log_id="log", node="host", key=key)
    events = [chain.append("secret.read", "a", {"client": "admin"}, "2026-11-23T17:00:00.123Z") for _ in range(lines)]
    place.state.audit.write_bytes(b"".join(event.raw + b"\n" for event in events))


def test_a_whole_log_verifies(place: Installation) -> None:
    assert place.look("chain").status == "ok"
    written(place, 3)
    finding = place.look("chain")
    assert (finding.status, "3 lines" in finding.found) == ("ok", True)


def test_an_edited_log_fails_with_the_line(place: Installation) -> None:
    written(place, 3)
    place.state.audit.write_bytes(place.state.audit.read_bytes().replace(b'"admin"', b'"other"', 1))
    finding = place.look("chain")
    assert (finding.status, "line 1" in finding.found) == ("failure", True)


def test_a_torn_end_is_a_warning_while_the_daemon_is_stopped_and_nothing_while_it_runs(place: Installation) -> None:
    written(place, 2)
    with place.state.audit.open("ab") as log:
        log.write(b'{"cut')
    assert place.look("chain").status == "warning"
    with place.state.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert place.look("chain").status == "ok"


def test_the_public_key_is_compared_with_the_one_that_signs(place: Installation) -> None:
    assert place.look("public-key").status == "ok"
    place.state.sign_pub.write_bytes(SigningKey.generate().public.to_pem())
    finding = place.look("public-key")
    assert finding.status == "failure"
    assert finding.fixes[0].startswith("openssl pkey -in")


def test_a_damaged_signing_key_fails_without_its_content(place: Installation) -> None:
    pem = place.state.sign_key.read_bytes()
    place.state.sign_key.write_bytes(pem[:60])
    finding = place.look("public-key")
    assert finding.status == "failure"
    assert pem.decode().splitlines()[1] not in str(finding)


def test_a_daemon_that_signs_with_another_key_shows(place: Installation) -> None:
    with FakeDaemon() as daemon:
        assert "another key" in place.look("public-key", url=daemon.url).found
        daemon.key = SigningKey.from_pem(place.state.sign_key.read_bytes())
        assert place.look("public-key", url=daemon.url).status == "ok"


def test_who_lags_behind_is_named_where_that_may_be_seen() -> None:
    finding = judge_laggards(3, {"db_password": ["backend", "worker/w-1"], "jwt": ["api"]}, "")
    assert finding.status == "warning"
    assert "db_password (backend, worker/w-1)" in finding.found
    assert "secretsctl consumers db_password" in finding.fixes
    unnamed = judge_laggards(1, {}, "to see who: no client is named")
    assert (unnamed.status, unnamed.fixes) == ("warning", ("to see who: no client is named",))


def test_a_rotation_that_does_not_get_through_is_named_with_its_reason() -> None:
    assert judge_rotations([secret("a")], 0).status == "ok"
    stuck = secret("db_password", "2026-12-01T00:00:00.000Z", rotation="auto", pending=pending(failing=True))
    finding = judge_rotations([secret("a"), stuck], 1)
    assert (finding.status, "db_password (set: down)" in finding.found) == ("warning", True)
    assert finding.fixes[0].startswith("secretsctl rotate db_password")
    assert judge_expiries([stuck], NOW).status == "ok", "told once"
    unnamed = judge_rotations([], 2)
    assert (unnamed.status, "2 rotations" in unnamed.found) == ("warning", True)


def test_where_only_tidying_up_fails_the_new_value_is_said_to_be_in_force() -> None:
    untidy = secret("db_password", pending=pending(failing=True, step="finish"))
    finding = judge_rotations([untidy], 1)
    assert finding.status == "warning"
    assert "the new value is in force" in finding.found
    assert "old value" not in finding.found
    assert finding.fixes[0].startswith("secretsctl rotate --cancel db_password")


@pytest.mark.parametrize(
    ("step", "failure"),
    [("set", "the old value is not back; test: no login; rollback: down"), ("undo", "rollback: down")],
)
def test_where_the_old_value_is_not_back_it_is_not_said_to_be_in_force(
    step: Literal["set", "undo"], failure: str
) -> None:
    lost = secret("db_password", pending=pending(failing=True, step=step, failure=failure))
    fine = secret("web_password", pending=pending(failing=True))
    finding = judge_rotations([lost, fine], 2)
    first, second = finding.found.split("; not through")
    assert f"may refuse the old value too: db_password ({failure})" in first
    assert "in force" not in first
    assert "the old value is in force: web_password (set: down)" in second
    assert [fix.split()[2] for fix in finding.fixes] == ["db_password", "web_password"]


def pending(
    *, failing: bool, step: Literal["set", "finish", "undo"] = "set", failure: str = "set: down"
) -> PendingRotation:
    return PendingRotation(
        version=2,
        step=step,
        since="2026-12-31T00:00:00.000Z",
        attempts=6,
        next_attempt="2027-01-01T00:10:00.000Z",
        failure=failure,
        failing=failing,
    )
