from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import rfc3339

from secretsd import policy as policies
from secretsd.auth import Caller
from secretsd.errors import Problem
from secretsd.model import (
    AcknowledgeRequest,
    CreateSecret,
    Metadata,
    PutSecret,
    RestoreRequest,
    RotateRequest,
    SecretAnswer,
    ValueIn,
)
from secretsd.service import Selector, Service
from tests.unit.support.clock import DAY_MS, HOUR_MS, START_MS
from tests.unit.support.core import POLICY, Bench
from tests.unit.support.disk import spy

NAME = "db_password"
NO_KEY: dict[str, Any] = {"idempotency_key": None}


async def create(bench: Bench, name: str = NAME, **body: Any) -> Metadata:
    request = CreateSecret(name=name, **{"value": "v1"} | body)
    return (await bench.service.create(bench.caller(), request, idempotency_key=None)).value


async def put(bench: Bench, value: str, *, if_match: str | None = None, **body: Any) -> Metadata:
    request = PutSecret(value=value, **body)
    answer = await bench.service.update(bench.caller(), NAME, request, if_match=if_match, idempotency_key=None)
    return answer.value


async def rotate(bench: Bench, *names: str, **body: Any) -> list[Metadata]:
    request = RotateRequest(names=list(names), **body)
    return (await bench.service.rotate(bench.caller(), request, idempotency_key=None)).value.rotated


async def restore(bench: Bench, version: int) -> Metadata:
    request = RestoreRequest(version=version)
    return (await bench.service.restore(bench.caller(), NAME, request, idempotency_key=None)).value


async def read(bench: Bench, name: str = NAME, *, client: str = "admin", **selector: Any) -> SecretAnswer:
    answer = await bench.service.read(
        bench.caller(client), name, Selector(**selector), if_none_match=None, min_generation=None
    )
    assert answer.value.body is not None
    return answer.value.body


async def refused(slug: str, call: Any) -> Problem:
    with pytest.raises(Problem) as problem:
        await call
    assert problem.value.slug == slug
    return problem.value


# Reading


async def test_a_value_is_released_after_its_line_and_not_without(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    assert (await read(bench)).value == "v1"
    assert [event.data["outcome"] for event in bench.events("secret.read")] == ["ok"]
    spy(monkeypatch, "fdatasync").fail()
    await refused("audit-unavailable", read(bench))


@pytest.mark.parametrize(
    ("action", "call"),
    [
        ("list", lambda service, who: service.list_secrets(who)),
        ("changes", lambda service, who: service.changes(who, None)),
        ("audit", lambda service, who: service.audit_lines(who, after=None, since_ms=None, limit=1)),
        ("consumers", lambda service, who: service.consumers(who, NAME)),
        ("schedule", lambda service, who: service.schedule(who, days=1, pattern=None)),
        ("acknowledge", lambda service, who: service.acknowledge(who, NAME, AcknowledgeRequest(version=1))),
    ],
)
async def test_whatever_is_asked_is_answered_after_its_line_and_not_without(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, action: str, call: Callable[[Service, Caller], Awaitable[object]]
) -> None:
    await create(bench)
    spy(monkeypatch, "fdatasync").fail()
    await refused("audit-unavailable", call(bench.service, bench.caller()))
    await call(bench.service, bench.caller())
    (event,) = (event for event in bench.events("secret.") if "action" in event.data)
    assert (event.data["action"], event.data["client"], event.data["outcome"]) == (action, "admin", "ok")


async def test_nothing_is_opened_for_who_may_not_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(bench, "x_password")

    def open_(*_: Any) -> Any:
        raise AssertionError("opened")

    monkeypatch.setattr(bench.vault, "open", open_)
    await refused("forbidden", read(bench, "x_password", client="backend"))


async def test_a_name_that_does_not_exist_is_refused_alike_to_who_may_not_read_it(bench: Bench) -> None:
    await create(bench, "x_password")
    there = await refused("forbidden", read(bench, "x_password", client="backend"))
    not_there = await refused("forbidden", read(bench, "y_password", client="backend"))
    assert (there.status, there.detail, there.position) == (not_there.status, not_there.detail, not_there.position)
    await refused("not-found", read(bench, "db_other", client="backend"))


async def test_what_is_not_there_is_audited_too_and_a_name_that_never_was_not_repeated(bench: Bench) -> None:
    await create(bench)
    await refused("not-found", read(bench, "hunter2"))
    await refused("version-not-found", read(bench, version=2))
    told = [(event.data["name"], event.data["outcome"]) for event in bench.events("secret.read")]
    assert told == [(None, "not-found"), (NAME, "version-not-found")]


async def test_a_version_the_caller_has_is_not_sent_and_still_audited(bench: Bench) -> None:
    made = await create(bench)
    for match in ([made.kid], ["another", made.kid]):
        answer = await bench.service.read(bench.caller(), NAME, Selector(), if_none_match=match, min_generation=None)
        assert (answer.value.body, answer.value.kid) == (None, made.kid)
    assert [event.data["outcome"] for event in bench.events("secret.read")] == ["not-modified"] * 2


async def test_a_daemon_that_is_behind_says_so(bench: Bench) -> None:
    await create(bench)
    problem = await refused(
        "behind", bench.service.read(bench.caller(), NAME, Selector(), if_none_match=None, min_generation=2)
    )
    assert (problem.status, problem.position) == (409, bench.document.position)
    await bench.service.read(bench.caller(), NAME, Selector(), if_none_match=None, min_generation=1)


async def test_a_stopped_daemon_serves_nothing(bench: Bench) -> None:
    await create(bench)
    bench.core.stopped_serving = "rolled back"
    for call in (
        read(bench),
        put(bench, "v2"),
        rotate(bench, NAME),
        restore(bench, 1),
        bench.service.list_secrets(bench.caller()),
        bench.service.changes(bench.caller(), None),
        bench.service.delete(bench.caller(), NAME, idempotency_key=None),
        bench.service.audit_lines(bench.caller(), after=None, since_ms=None, limit=1),
        create(bench, "other"),
    ):
        await refused("vault-unavailable", call)
    with pytest.raises(Problem):
        bench.service.jwks()
    assert bench.service.health().status == "unavailable"


async def test_lists_and_changes_hold_what_the_caller_may_read(bench: Bench) -> None:
    for name in ("x_password", "db_b", "db_a"):
        await create(bench, name)
    listed = await bench.service.list_secrets(bench.caller("backend"))
    assert [secret.name for secret in listed.value.secrets] == ["db_a", "db_b"]
    changed = await bench.service.changes(bench.caller("backend"), None)
    assert [change.name for change in changed.value.changes] == ["db_b", "db_a"]
    assert [event.data["action"] for event in bench.events("secret.listed")] == ["list", "changes"]


async def whole(pieces: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def test_a_long_page_of_the_audit_comes_in_pieces_of_whole_lines(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secretsd.service.page.PIECE_BYTES", 1000)
    await create(bench)
    for _ in range(9):
        await read(bench)
    answer = await bench.service.audit_lines(bench.caller(), after=None, since_ms=None, limit=100)
    pieces = [piece async for piece in answer.value]
    assert len(pieces) > 3
    assert all(piece.endswith(b"\n") and len(piece) < 2000 for piece in pieces)
    assert b"".join(pieces) == bench.audit_path.read_bytes()


async def test_a_page_that_nobody_reads_on_lets_go_of_the_log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secretsd.service.page.PIECE_BYTES", 1)
    await create(bench)
    await read(bench)
    answer = await bench.service.audit_lines(bench.caller(), after=None, since_ms=None, limit=100)
    assert await anext(answer.value)
    held = len(list(Path("/proc/self/fd").iterdir()))
    await answer.value.aclose()
    assert len(list(Path("/proc/self/fd").iterdir())) == held - 1


async def test_the_audit_is_given_line_by_line_as_it_stands(bench: Bench) -> None:
    await create(bench)
    for _ in range(3):
        await read(bench)
    answer = await bench.service.audit_lines(bench.caller(), after=1, since_ms=None, limit=2)
    assert (await whole(answer.value)).splitlines() == bench.audit_path.read_bytes().splitlines()[1:3]
    since = await bench.service.audit_lines(bench.caller(), after=None, since_ms=START_MS + 1, limit=10)
    assert await whole(since.value) == b""
    await refused("forbidden", bench.service.audit_lines(bench.caller("backend"), after=None, since_ms=None, limit=1))


async def test_a_page_from_a_time_on_has_no_holes_where_the_clock_was_set_back(bench: Bench) -> None:
    for jump_ms in (0, 1000, -60_000, 0, 90_000):
        bench.clock.jump(jump_ms)
        await create(bench, f"s{bench.document.generation}")
    answer = await bench.service.audit_lines(bench.caller(), after=None, since_ms=START_MS + 1000, limit=3)
    assert (await whole(answer.value)).splitlines() == bench.audit_path.read_bytes().splitlines()[1:4]


async def test_a_page_that_goes_on_under_the_same_time_leaves_nothing_out_and_is_told_of_a_hole(bench: Bench) -> None:
    for jump_ms in (0, 1000, -60_000, 0, 0, 0):
        bench.clock.jump(jump_ms)
        await create(bench, f"s{bench.document.generation}")
    lines = bench.audit_path.read_bytes().splitlines(keepends=True)

    async def page(after: int | None) -> bytes:
        answer = await bench.service.audit_lines(bench.caller(), after=after, since_ms=START_MS + 1000, limit=2)
        return await whole(answer.value)

    assert await page(None) == b"".join(lines[1:3])
    assert await page(0) == b"".join(lines[1:3])
    assert await page(3) == b"".join(lines[3:5])
    bench.audit_path.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    assert "after=4" in (await refused("history-gone", page(3))).detail


async def test_lines_that_are_gone_are_said_to_be(bench: Bench) -> None:
    for number in range(4):
        await create(bench, f"s{number}")
    lines = bench.audit_path.read_bytes().splitlines(keepends=True)
    bench.audit_path.write_bytes(b"".join(lines[2:]))
    problem = await refused("history-gone", bench.service.audit_lines(bench.caller(), after=1, since_ms=None, limit=1))
    assert "after=2" in problem.detail
    await bench.service.audit_lines(bench.caller(), after=2, since_ms=None, limit=1)


async def test_a_page_ends_before_a_hole_and_the_next_one_is_told_of_it(bench: Bench) -> None:
    for number in range(4):
        await create(bench, f"s{number}")
    lines = bench.audit_path.read_bytes().splitlines(keepends=True)
    bench.audit_path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    answer = await bench.service.audit_lines(bench.caller(), after=0, since_ms=None, limit=10)
    assert await whole(answer.value) == b"".join(lines[:2])
    problem = await refused("history-gone", bench.service.audit_lines(bench.caller(), after=2, since_ms=None, limit=1))
    assert "after=3" in problem.detail


# Making


async def test_a_secret_without_a_value_is_generated_by_its_type(bench: Bench) -> None:
    request = CreateSecret(name=NAME)
    made = (await bench.service.create(bench.caller(), request, idempotency_key=None)).value
    assert made.type == "password"
    assert len((await read(bench)).value) == 64


async def test_an_external_secret_needs_its_value(bench: Bench) -> None:
    request = CreateSecret(name="brave_api_key")
    await refused("value-required", bench.service.create(bench.caller(), request, idempotency_key=None))
    await create(bench, "brave_api_key")
    await refused("value-required", rotate(bench, "brave_api_key"))
    assert (await rotate(bench, "brave_api_key", values={"brave_api_key": "v2"}))[0].version == 2


async def test_an_external_secret_says_where_its_rule_has_another_type_by_now(tmp_path: Path, bench: Bench) -> None:
    await create(bench, "brave_api_key")
    (tmp_path / "policy.yaml").write_text(f"{POLICY}  brave_api_key: {{type: api_key}}\n")
    bench.core.policy = policies.load(tmp_path / "policy.yaml", bench.config)
    problem = await refused("value-required", rotate(bench, "brave_api_key"))
    assert "keeps that type though its rule says api_key by now: delete it and make it anew" in problem.detail


async def test_a_name_that_exists_is_not_made_again(bench: Bench) -> None:
    await create(bench)
    assert (await refused("exists", create(bench))).status == 409


async def test_bytes_stay_bytes(bench: Bench) -> None:
    data = base64.b64encode(b"\x00\xff").decode()
    await create(bench, value=data, encoding="base64")
    found = await read(bench)
    assert (found.value, found.encoding) == (data, "base64")


# Changing


async def test_a_new_value_leaves_the_old_one_readable_for_its_grace(bench: Bench) -> None:
    await create(bench, grace_period="2h")
    made = await put(bench, "v2")
    assert (made.version, made.previous and made.previous.version) == (2, 1)
    assert made.previous is not None
    assert made.previous.grace_until == rfc3339(START_MS + 2 * HOUR_MS)
    assert ((await read(bench)).value, (await read(bench, previous=True)).value) == ("v2", "v1")
    bench.clock.advance(2 * HOUR_MS)
    await refused("version-not-found", read(bench, version=1))


async def test_compare_and_set_takes_the_current_kid_alone(bench: Bench) -> None:
    first = await create(bench)
    second = await put(bench, "v2", if_match=first.kid)
    await refused("precondition-failed", put(bench, "v3", if_match=first.kid))
    await put(bench, "v3", if_match=second.kid)
    await put(bench, "v4", if_match="*")
    assert (await read(bench)).value == "v4"


async def test_an_urgent_change_ends_all_graces_at_once(bench: Bench) -> None:
    await create(bench)
    await put(bench, "v2")
    made = await put(bench, "v3", urgent=True, reason="leaked")
    assert made.previous is None
    for version in (1, 2):
        await refused("version-not-found", read(bench, version=version))
    raw = bench.vault.path.read_text()
    assert raw.count('"ciphertext"') == 1
    event = bench.events("secret.updated")[-1]
    assert (event.data["urgent"], event.data["reason"]) == (True, "leaked")
    assert [event.data["retired_version"] for event in bench.events("secret.retired")] == [1]


async def test_a_change_without_grace_takes_the_old_value_away_at_once(bench: Bench) -> None:
    await create(bench)
    assert (await put(bench, "v2", grace_period="0s")).previous is None
    assert bench.vault.path.read_text().count('"ciphertext"') == 1


async def test_rotations_are_all_or_none_in_one_commit(bench: Bench) -> None:
    a, b = "a_password", "b_password"
    for name in (a, b, "brave_api_key"):
        await create(bench, name)
    generation = bench.document.generation
    assert (await refused("value-required", rotate(bench, a, b, "brave_api_key"))).detail.startswith("names[2]: ")
    assert (await refused("not-found", rotate(bench, a, "missing"))).detail.startswith("names[1]: ")
    assert (await refused("not-found", rotate(bench, "missing"))).detail.startswith("No secret has this name")
    await refused("invalid-request", rotate(bench, a, a))
    await refused("invalid-request", rotate(bench, a, values={b: "x"}))
    assert bench.document.generation == generation
    values: dict[str, str | ValueIn] = {"brave_api_key": ValueIn(value="AA==", encoding="base64")}
    rotated = await rotate(bench, "brave_api_key", a, b, values=values)
    assert [(one.name, one.version, one.generation) for one in rotated] == [
        ("brave_api_key", 2, generation + 1),
        (a, 2, generation + 1),
        (b, 2, generation + 1),
    ]


@pytest.mark.parametrize(
    ("action", "call"),
    [
        ("create", lambda service, who: service.create(who, CreateSecret(name="db_new", value="v"), **NO_KEY)),
        ("update", lambda service, who: service.update(who, NAME, PutSecret(value="v"), if_match=None, **NO_KEY)),
        ("rotate", lambda service, who: service.rotate(who, RotateRequest(names=[NAME]), **NO_KEY)),
        ("restore", lambda service, who: service.restore(who, NAME, RestoreRequest(version=1), **NO_KEY)),
        ("cancel", lambda service, who: service.cancel(who, NAME, **NO_KEY)),
        ("delete", lambda service, who: service.delete(who, NAME, **NO_KEY)),
    ],
)
async def test_who_may_only_read_changes_nothing_and_is_denied_in_the_log(
    bench: Bench, action: str, call: Callable[[Service, Caller], Awaitable[object]]
) -> None:
    await create(bench)
    before = bench.document
    await refused("forbidden", call(bench.service, bench.caller("backend")))
    assert bench.document is before
    (event,) = bench.events("access.denied")
    assert (event.data["client"], event.data["action"]) == ("backend", action)


async def test_a_rotation_with_a_value_needs_the_right_to_write(tmp_path: Path) -> None:
    policy = POLICY.replace('backend: {allow: ["db_*"]}', 'backend: {allow: ["db_*"], can: [rotate]}')
    bench = Bench(tmp_path, policy=policy)
    await create(bench)
    given = RotateRequest(names=[NAME], values={NAME: "v2"})
    await refused("forbidden", bench.service.rotate(bench.caller("backend"), given, **NO_KEY))
    await bench.service.rotate(bench.caller("backend"), RotateRequest(names=[NAME]), **NO_KEY)
    await bench.close()


async def test_a_restored_version_is_a_new_one_with_the_old_value(bench: Bench) -> None:
    first = await create(bench)
    await put(bench, "v2")
    made = await restore(bench, 1)
    assert (made.version, (await read(bench)).value) == (3, "v1")
    assert made.kid != first.kid
    assert (await read(bench, version=2)).value == "v2"
    assert bench.events("secret.rotated")[-1].data["reason"] == "version 1 restored"
    await refused("invalid-request", restore(bench, 3))
    await refused("version-not-found", restore(bench, 9))


async def test_a_version_whose_grace_is_over_can_not_be_restored(bench: Bench) -> None:
    await create(bench, grace_period="1h")
    await put(bench, "v2")
    bench.clock.advance(HOUR_MS)
    await refused("version-not-found", restore(bench, 1))


async def test_a_deleted_secret_leaves_a_tombstone_and_no_ciphertext(bench: Bench) -> None:
    await create(bench)
    await put(bench, "v2")
    await bench.service.delete(bench.caller(), NAME, idempotency_key=None)
    assert '"ciphertext"' not in bench.vault.path.read_text()
    await refused("not-found", read(bench))
    await refused("not-found", bench.service.delete(bench.caller(), NAME, idempotency_key=None))
    changed = (await bench.service.changes(bench.caller(), None)).value.changes
    assert [(change.name, change.version, change.status) for change in changed] == [(NAME, 2, "deleted")]


async def test_a_repeated_creation_of_what_was_deleted_since_says_so(bench: Bench) -> None:
    made = CreateSecret(name=NAME, value="v")
    await bench.service.create(bench.caller(), made, idempotency_key="once")
    await bench.service.delete(bench.caller(), NAME, idempotency_key=None)
    again = await refused("not-found", bench.service.create(bench.caller(), made, idempotency_key="once"))
    assert again.detail.startswith(f"{NAME}: the request was carried out before, and the secret has been deleted since")


async def test_a_new_secret_of_a_deleted_name_continues_its_versions(bench: Bench) -> None:
    await create(bench)
    await put(bench, "v2")
    await bench.service.delete(bench.caller(), NAME, idempotency_key=None)
    made = await create(bench, value="v3")
    assert (made.version, made.previous) == (3, None)
    assert NAME not in bench.document.tombstones
    await refused("version-not-found", read(bench, version=2))


@pytest.mark.parametrize("name", ["a/b", "", "é", "a" * 129, "a\n"])
async def test_what_can_be_no_name_is_told_only_to_who_might_use_it(bench: Bench, name: str) -> None:
    problem = await refused(
        "invalid-request",
        bench.service.update(bench.caller(), name, PutSecret(value="v"), if_match=None, idempotency_key=None),
    )
    assert problem.status == 400
    await refused("forbidden", read(bench, name, client="backend"))


# Signing keys


async def test_the_public_halves_are_published_while_current_or_in_grace(bench: Bench) -> None:
    name = "jwt_signing_key"
    made = (await bench.service.create(bench.caller(), CreateSecret(name=name), idempotency_key=None)).value
    (rotated,) = await rotate(bench, name, grace_period="1d")
    kids = [key["kid"] for key in bench.service.jwks().keys]
    assert kids == [rotated.kid, made.kid]
    bench.clock.advance(DAY_MS)
    assert [key["kid"] for key in bench.service.jwks().keys] == [rotated.kid]
    assert "d" not in bench.service.jwks().keys[0]


async def test_no_half_is_published_of_a_key_whose_rule_does_not_say_so(tmp_path: Path) -> None:
    policy = POLICY + "  own_key: {type: jwt_signing_key, jwks: false}\n"
    bench = Bench(tmp_path, policy=policy)
    await bench.service.create(bench.caller(), CreateSecret(name="own_key"), **NO_KEY)
    assert bench.service.jwks().keys == []
    await bench.close()


async def test_the_set_may_be_kept_until_it_changes_by_itself_and_an_hour_at_most(bench: Bench) -> None:
    name = "jwt_signing_key"
    assert bench.service.jwks().max_age_secs == 3600
    await bench.service.create(bench.caller(), CreateSecret(name=name, rotation_period="30d"), idempotency_key=None)
    assert bench.service.jwks().max_age_secs == 3600
    bench.clock.advance(30 * DAY_MS - 90_500)
    assert bench.service.jwks().max_age_secs == 90
    bench.clock.advance(90_500)
    assert bench.service.jwks().max_age_secs == 1
    await rotate(bench, name, grace_period="10m")
    assert bench.service.jwks().max_age_secs == 600
