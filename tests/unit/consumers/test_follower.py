from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from secretsd_bus import line_hash

from secretsd.audit.log import Entry
from secretsd.consumers import follower as following
from secretsd.consumers.follower import Follower
from secretsd.consumers.statefile import beside
from tests.support.waiting import eventually
from tests.unit.support.core import Bench


def read(client: str, name: str, version: int) -> Entry:
    return Entry(
        "secret.read",
        name,
        {"client": client, "instance": None, "name": name, "kid": f"kid-{version}", "version": version},
    )


async def lines(bench: Bench, *entries: Entry) -> None:
    await bench.log.append(*entries)


def follower(bench: Bench) -> Follower:
    made = Follower(bench.log, bench.audit_path, bench.clock)
    bench.log.on_durable = made.written
    return made


async def caught_up(bench: Bench) -> Follower:
    made = follower(bench)
    made.start()
    await asyncio.to_thread(eventually, lambda: made.caught_up, "the log was read")
    return made


def known(one: Follower) -> object:
    return one.sightings.secrets, one.sightings.seen, one.sightings.since, one.sequence


def files(bench: Bench) -> Path:
    return beside(bench.audit_path)


async def test_what_is_read_is_known_at_once_and_after_a_start(bench: Bench) -> None:
    first = await caught_up(bench)
    news: list[object] = []
    first.on_news = lambda names: news.append(set(names))
    await lines(bench, read("backend", "db", 1), read("worker", "db", 1))
    await lines(bench, read("backend", "db", 1))
    assert news == [{"db"}]
    assert set(first.sightings.of("db")) == {"backend", "worker"}
    await first.stop()
    second = await caught_up(bench)
    assert known(second) == known(first)
    await second.stop()


async def test_without_the_file_the_same_is_made_from_the_log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CHUNK_LINES", 7)
    first = await caught_up(bench)
    for number in range(50):
        await lines(bench, *(read(f"c{number % 3}", f"s{place}", number) for place in range(5)))
    await first.stop()
    files(bench).unlink()
    second = await caught_up(bench)
    assert known(second) == known(first)
    await second.stop()


async def test_what_was_written_since_the_file_is_read_back(bench: Bench) -> None:
    first = await caught_up(bench)
    await lines(bench, read("backend", "db", 1))
    await first.stop()
    bench.log.on_durable = lambda _: None  # the daemon was killed: nobody saved what follows
    await lines(bench, read("backend", "db", 2), read("worker", "db", 2))
    second = await caught_up(bench)
    assert {key: found.read.version for key, found in second.sightings.of("db").items() if found.read} == {
        "backend": 2,
        "worker": 2,
    }
    await second.stop()


async def test_lines_that_come_while_it_catches_up_are_neither_lost_nor_taken_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "CHUNK_LINES", 3)
    await lines(bench, *(read("backend", f"s{number}", 1) for number in range(40)))
    one = follower(bench)
    one.start()
    for number in range(40, 80):
        await lines(bench, read("backend", f"s{number}", 1))
    await asyncio.to_thread(eventually, lambda: one.caught_up, "the log was read")
    assert one.sequence == bench.log.sequence
    assert set(one.sightings.secrets) == {f"s{number}" for number in range(80)}
    await one.stop()


@pytest.mark.parametrize("content", [b"", b"{", b'{"format":2}', b"[]"])
async def test_a_damaged_file_is_made_again(bench: Bench, content: bytes) -> None:
    await lines(bench, read("backend", "db", 1))
    files(bench).write_bytes(content)
    one = await caught_up(bench)
    assert set(one.sightings.of("db")) == {"backend"}
    await one.stop()
    assert json.loads(files(bench).read_bytes())["head"] == line_hash(bench.events()[-1].raw)


async def test_the_file_of_a_log_that_went_another_way_counts_for_nothing(bench: Bench) -> None:
    first = await caught_up(bench)
    await lines(bench, read("backend", "db", 1))
    await first.stop()
    content = json.loads(files(bench).read_bytes())
    content["head"] = "x" * 43
    content["secrets"]["other"] = {"backend": [[1, "kid-1", "2026-11-28T00:00:00.000Z"], None]}
    files(bench).write_text(json.dumps(content))
    second = await caught_up(bench)
    assert set(second.sightings.secrets) == {"db"}
    await second.stop()


async def test_a_log_whose_beginning_is_gone_says_from_when_on_it_is_known(bench: Bench) -> None:
    await lines(bench, read("backend", "db", 1))
    bench.clock.advance_to(bench.clock.now_ms() + 5000)
    await lines(bench, read("worker", "db", 1))
    kept = bench.audit_path.read_bytes().splitlines(keepends=True)
    bench.audit_path.write_bytes(kept[1])
    one = await caught_up(bench)
    assert set(one.sightings.of("db")) == {"worker"}
    assert one.sightings.since == json.loads(kept[1])["time"]
    await one.stop()


@pytest.mark.parametrize(
    ("part", "damage"), [(b'"client":"backend"', b'"cl1ent":"backend"'), (b'"data":{', b'"data":7,"other":{')]
)
async def test_a_damaged_line_says_nothing_and_that_is_kept_in_mind(bench: Bench, part: bytes, damage: bytes) -> None:
    await lines(bench, read("backend", "db", 1), read("worker", "db", 1))
    first, second = bench.audit_path.read_bytes().splitlines(keepends=True)
    bench.audit_path.write_bytes(first.replace(part, damage) + second)
    one = await caught_up(bench)
    assert set(one.sightings.of("db")) == {"worker"}
    assert one.sightings.since == json.loads(first)["time"]
    await one.stop()


async def test_lines_that_are_gone_altogether_are_not_waited_for(bench: Bench) -> None:
    await lines(bench, read("backend", "db", 1))
    bench.audit_path.write_bytes(b"")
    one = await caught_up(bench)
    assert one.sequence == bench.log.sequence
    assert one.sightings.since is not None
    await one.stop()


async def test_a_file_that_cannot_be_written_stops_nothing(bench: Bench) -> None:
    one = await caught_up(bench)
    files(bench).mkdir()
    await lines(bench, read("backend", "db", 1))
    await one.stop()
    assert set(one.sightings.of("db")) == {"backend"}


async def test_it_is_saved_after_so_many_lines(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SAVE_LINES", 10)
    one = await caught_up(bench)
    await lines(bench, *(read("backend", "db", number) for number in range(1, 13)))
    await asyncio.to_thread(eventually, files(bench).exists, "the file is there")
    assert json.loads(files(bench).read_bytes())["sequence"] == 12
    await one.stop()
