"""POST /secrets: all of the entries or none, in one commit."""

from __future__ import annotations

from typing import Any

import pytest

from secretsd.errors import Problem
from secretsd.model import BatchEntry, CreateSecrets, Metadata
from secretsd.service import Selector
from tests.unit.support.core import Bench
from tests.unit.support.disk import spy


async def create_all(
    bench: Bench, *entries: dict[str, Any], client: str = "admin", key: str | None = None
) -> list[Metadata]:
    body = CreateSecrets(secrets=[BatchEntry(**entry) for entry in entries])
    return (await bench.service.create_all(bench.caller(client), body, idempotency_key=key)).value.secrets


async def value_of(bench: Bench, name: str) -> str:
    found = await bench.service.read(bench.caller(), name, Selector(), if_none_match=None, min_generation=None)
    assert found.value.body is not None
    return found.value.body.value


async def refused(slug: str, call: Any) -> str:
    with pytest.raises(Problem) as problem:
        await call
    assert problem.value.slug == slug
    return problem.value.detail


async def test_all_of_them_come_with_one_generation(bench: Bench) -> None:
    before = bench.document.generation
    made = await create_all(bench, {"name": "a_password", "value": "1"}, {"name": "b_password"})
    assert [(one.name, one.version, one.generation) for one in made] == [
        ("a_password", 1, before + 1),
        ("b_password", 1, before + 1),
    ]
    assert [event.subject for event in bench.events("secret.created")] == ["a_password", "b_password"]
    assert await value_of(bench, "a_password") == "1"
    assert len(await value_of(bench, "b_password")) == 64


async def test_one_that_exists_leaves_all_of_them_out(bench: Bench) -> None:
    await create_all(bench, {"name": "there", "value": "1"})
    before = bench.document
    detail = await refused("exists", create_all(bench, {"name": "new", "value": "1"}, {"name": "there", "value": "2"}))
    assert detail.startswith("secrets[1]: ")
    assert bench.document is before
    assert bench.stored().secrets.keys() == {"there"}


async def test_a_failed_write_leaves_all_of_them_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spy(monkeypatch, "fsync").fail()
    await refused("vault-unavailable", create_all(bench, {"name": "a", "value": "1"}, {"name": "b", "value": "1"}))
    assert not bench.document.secrets
    assert not bench.stored().secrets


async def test_one_that_may_not_be_written_leaves_all_of_them_out(bench: Bench) -> None:
    entries = {"name": "db_a", "value": "1"}, {"name": "other", "value": "1"}
    detail = await refused("forbidden", create_all(bench, *entries, client="backend"))
    assert detail.startswith("secrets[0]: ")
    assert not bench.document.secrets


async def test_replacing_needs_the_kid_that_is_current(bench: Bench) -> None:
    (made,) = await create_all(bench, {"name": "db_a", "value": "1"})
    wrong = {"name": "db_a", "value": "2", "replaces": "x" * 16}
    await refused("precondition-failed", create_all(bench, {"name": "db_b", "value": "1"}, wrong))
    assert bench.document.secrets.keys() == {"db_a"}
    renewed, fresh = await create_all(
        bench, {"name": "db_a", "value": "2", "replaces": made.kid}, {"name": "db_b", "value": "1"}
    )
    assert (renewed.version, fresh.version) == (2, 1)
    assert renewed.previous is not None
    assert renewed.previous.kid == made.kid
    assert await value_of(bench, "db_a") == "2"


@pytest.mark.parametrize(
    ("entry", "slug"),
    [
        ({"name": "gone", "value": "1", "replaces": "x" * 16}, "not-found"),
        ({"name": "gone", "replaces": "x" * 16}, "value-required"),
        ({"name": "gone", "value": "1", "replaces": "x" * 16, "type": "generic"}, "invalid-request"),
        ({"name": "brave_api_key"}, "value-required"),
        ({"name": "jwt_signing_key", "value": "no key"}, "invalid-request"),
        ({"name": "new", "value": ""}, "invalid-request"),
    ],
)
async def test_an_entry_that_can_not_be_is_named_by_its_place(bench: Bench, entry: dict[str, Any], slug: str) -> None:
    detail = await refused(slug, create_all(bench, {"name": "first", "value": "1"}, entry))
    assert detail.startswith("secrets[1]: ")
    assert not bench.document.secrets


async def test_a_name_that_stands_there_twice_is_refused(bench: Bench) -> None:
    await refused("invalid-request", create_all(bench, {"name": "a", "value": "1"}, {"name": "a", "value": "2"}))


async def test_the_same_request_under_its_key_changes_nothing_more(bench: Bench) -> None:
    entries = {"name": "a", "value": "1"}, {"name": "b"}
    first = await create_all(bench, *entries, key="k")
    generated = await value_of(bench, "b")
    assert await create_all(bench, *entries, key="k") == first
    assert await value_of(bench, "b") == generated
    assert len(bench.events("secret.created")) == 2
