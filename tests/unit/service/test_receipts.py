"""A request that is repeated under its Idempotency-Key: what it is answered with, and how long it is known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from secretsd.errors import Problem
from secretsd.model import BatchEntry, CreateSecret, CreateSecrets, Metadata, PutSecret, RotateRequest
from secretsd.service import Selector
from secretsd.service.receipts import KIDS_MOST, RECEIPTS_MOST, remembered
from secretsd.vault.document import Receipt
from tests.unit.support.core import Bench

NAME = "db_password"


async def create(bench: Bench, name: str = NAME, *, key: str | None = None) -> Metadata:
    body = CreateSecret(name=name, value="v1")
    return (await bench.service.create(bench.caller(), body, idempotency_key=key)).value


async def put(bench: Bench, value: str, *, key: str | None = None, if_match: str | None = None) -> Metadata:
    body = PutSecret(value=value)
    return (await bench.service.update(bench.caller(), NAME, body, if_match=if_match, idempotency_key=key)).value


async def rotate(bench: Bench, *names: str, key: str | None = None, **body: Any) -> list[Metadata]:
    request = RotateRequest(names=list(names), **body)
    return (await bench.service.rotate(bench.caller(), request, idempotency_key=key)).value.rotated


async def refused(slug: str, call: Awaitable[object]) -> str:
    with pytest.raises(Problem) as problem:
        await call
    assert problem.value.slug == slug
    return problem.value.detail


async def test_a_repetition_is_answered_with_its_own_version_though_another_followed(bench: Bench) -> None:
    await create(bench)
    first = await put(bench, "mine", key="k")
    await put(bench, "theirs")
    again = await put(bench, "mine", key="k")
    assert (again.version, again.kid, again.created_at) == (first.version, first.kid, first.created_at)
    assert again.previous is not None
    assert again.previous.version == 1
    await refused("precondition-failed", put(bench, "mine too", if_match=again.kid))
    assert bench.document.secrets[NAME].current.version == 3


async def test_a_repetition_says_of_a_version_what_a_read_of_it_says(bench: Bench) -> None:
    await create(bench)
    first = await put(bench, "mine", key="k")
    await put(bench, "theirs")
    selector = Selector(kid=first.kid)
    found = await bench.service.read(bench.caller(), NAME, selector, if_none_match=None, min_generation=None)
    body, again = found.value.body, await put(bench, "mine", key="k")
    assert body is not None
    assert {member: getattr(body, member) for member in again.__struct_fields__} == {
        member: getattr(again, member) for member in again.__struct_fields__
    }


async def test_two_at_once_are_each_answered_with_their_own_version(bench: Bench) -> None:
    await create(bench)
    both = await asyncio.gather(put(bench, "a"), put(bench, "b"))
    assert [made.version for made in both] == [2, 3]


async def test_a_repetition_whose_version_can_not_be_read_any_more_is_told_so(bench: Bench) -> None:
    await create(bench)
    await put(bench, "mine", key="k")
    await rotate(bench, NAME, urgent=True)
    assert "carried out" in await refused("version-not-found", put(bench, "mine", key="k"))
    assert bench.document.secrets[NAME].current.version == 3


async def test_a_repetition_after_the_end_of_its_grace_is_told_so_before_the_schedule_was_there(bench: Bench) -> None:
    await create(bench)
    await put(bench, "mine", key="k")
    short = PutSecret(value="theirs", grace_period="1h")
    await bench.service.update(bench.caller(), NAME, short, if_match=None, idempotency_key=None)
    bench.clock.advance(3_600_000)
    await refused("version-not-found", put(bench, "mine", key="k"))


async def test_a_creation_is_not_answered_with_what_another_made_of_the_name(bench: Bench) -> None:
    await create(bench, key="k")
    await bench.service.delete(bench.caller(), NAME, idempotency_key="d")
    await create(bench)
    await refused("version-not-found", create(bench, key="k"))
    await bench.service.delete(bench.caller(), NAME, idempotency_key="d")
    assert bench.document.secrets[NAME].current.version == 2


async def test_a_rotation_of_many_is_answered_with_each_ones_own_version(bench: Bench) -> None:
    names = ["c_password", "a_password", "b_password"]
    for name in names:
        await create(bench, name)
    first = await rotate(bench, *names, key="k")
    await rotate(bench, "a_password")
    again = await rotate(bench, *names, key="k")
    assert [(one.name, one.version, one.kid) for one in again] == [(one.name, one.version, one.kid) for one in first]
    await rotate(bench, "a_password", "b_password", urgent=True)
    detail = await refused("version-not-found", rotate(bench, *names, key="k"))
    assert detail.startswith("a_password, b_password: ")
    await bench.service.delete(bench.caller(), "c_password", idempotency_key=None)
    detail = await refused("not-found", rotate(bench, *names, key="k"))
    assert detail.startswith("c_password: ")
    assert "a_password, b_password: " in detail


async def test_a_batch_is_answered_with_each_ones_own_version(bench: Bench) -> None:
    kid = (await create(bench)).kid
    entries = [BatchEntry(name="b_password", value="1"), BatchEntry(name=NAME, value="2", replaces=kid)]

    async def batch() -> list[tuple[str, int]]:
        body = CreateSecrets(secrets=entries)
        answered = await bench.service.create_all(bench.caller(), body, idempotency_key="k")
        return [(one.name, one.version) for one in answered.value.secrets]

    assert await batch() == [("b_password", 1), (NAME, 2)]
    await rotate(bench, "b_password", NAME)
    assert await batch() == [("b_password", 1), (NAME, 2)]


async def test_a_receipt_of_release_0_1_0_counts_as_far_as_it_knows(bench: Bench) -> None:
    await create(bench)
    first = await put(bench, "mine", key="k")
    (receipt,) = bench.document.receipts
    bench.vault.show(replace(bench.document, receipts=(replace(receipt, fingerprint=receipt.digest),)))
    assert await put(bench, "mine", key="k") == first
    await refused("invalid-request", put(bench, "other", key="k"))
    await put(bench, "theirs")
    assert "carried out" in await refused("version-not-found", put(bench, "mine", key="k"))
    assert bench.document.secrets[NAME].current.version == 3


# How many are kept


def receipt(client: str, number: int, *kids: str) -> Receipt:
    return Receipt(f"key-{number}", " ".join(("digest", client, *kids)), number, number)


def kept(receipts: list[Receipt]) -> dict[str, list[int]]:
    """Let them come one after the other and return what is kept of each client."""
    known: tuple[Receipt, ...] = ()
    for one in receipts:
        known = remembered([one, *known])
        assert known[0] is one
    return {client: [one.at for one in known if one.client == client] for client in sorted({x.client for x in known})}


def test_a_client_that_asks_much_pushes_out_its_own_receipts_only() -> None:
    asked = [receipt("quiet", 0), *(receipt("chatty", number) for number in range(1, 3 * RECEIPTS_MOST))]
    assert kept(asked) == {
        "chatty": list(range(3 * RECEIPTS_MOST - 1, 2 * RECEIPTS_MOST, -1)),
        "quiet": [0],
    }


def test_many_clients_have_equal_shares_and_the_oldest_goes_first() -> None:
    asked = [receipt(f"c{number % 4}", number) for number in range(4 * RECEIPTS_MOST)]
    assert {client: len(theirs) for client, theirs in kept(asked).items()} == dict.fromkeys(
        ("c0", "c1", "c2", "c3"), RECEIPTS_MOST // 4
    )
    each_one = [receipt(f"c{number}", number) for number in range(RECEIPTS_MOST + 2)]
    assert "c0" not in kept(each_one)
    assert len(kept(each_one)) == RECEIPTS_MOST


def kids(known: Sequence[Receipt]) -> dict[int, int]:
    """Return how many kids each receipt has, by its number."""
    return {one.at: len(one.kids) for one in known}


def test_requests_with_many_names_lose_their_kids_and_never_a_receipt() -> None:
    third = ["k" * 22] * (KIDS_MOST // 3)
    known: tuple[Receipt, ...] = ()
    for one in [receipt("quiet", 0, "k"), *(receipt("chatty", number, *third) for number in range(1, 6))]:
        known = remembered([one, *known])
    assert kids(known) == {5: len(third), 4: len(third), 3: len(third), 2: 0, 1: 0, 0: 1}
    assert [(one.key, one.digest, one.client, one.generation) for one in known] == [
        *((f"key-{number}", "digest", "chatty", number) for number in range(5, 0, -1)),
        ("key-0", "digest", "quiet", 0),
    ]


def test_a_request_with_many_names_costs_no_other_client_its_kids() -> None:
    some, most = ["k" * 22] * 1000, ["k" * 22] * KIDS_MOST
    known = remembered([receipt("chatty", 2, *most), receipt("quiet", 1, *some), receipt("chatty", 0, *some)])
    assert kids(known) == {2: 0, 1: 1000, 0: 0}


async def test_a_change_is_made_once_however_many_names_another_has(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secretsd.service.receipts.KIDS_MOST", 4)
    names = ["a_password", "b_password", "c_password"]
    for name in names:
        await create(bench, name)
    await rotate(bench, *names, key="k1")
    await rotate(bench, *names[:2], key="k2")
    detail = await refused("version-not-found", rotate(bench, *names, key="k1"))
    assert detail.startswith("a_password, b_password: the request was carried out")
    await refused("invalid-request", rotate(bench, "c_password", key="k1"))
    assert [bench.document.secrets[name].current.version for name in names] == [3, 3, 2]


async def test_without_its_kids_a_repetition_is_answered_with_what_nobody_has_changed_since(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secretsd.service.receipts.KIDS_MOST", 1)
    names = ["a_password", "b_password"]
    for name in names:
        await create(bench, name)
    first = await rotate(bench, *names, key="k")
    assert bench.document.receipts[0].kids == []
    assert await rotate(bench, *names, key="k") == first


async def test_the_vault_keeps_them_within_their_bound(bench: Bench) -> None:
    await create(bench, key="first")
    for number in range(RECEIPTS_MOST + 1):
        await put(bench, "v", key=f"k{number}")
    assert len(bench.stored().receipts) == RECEIPTS_MOST
    assert bench.stored().format == 1
