from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import Chain

from secretsd.audit.linefile import LineFile
from secretsd.audit.log import AuditLog
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import CreateSecret, Metadata, PutSecret, RotateRequest
from secretsd.reserve import Reserve
from secretsd.service import Answered, Selector
from secretsd.service.commits import Committer
from secretsd.vault.vault import Vault
from tests.unit.support.core import MASTER, POLICY, Bench, whole_chain
from tests.unit.support.disk import Call, PowerCut, spy


async def create(bench: Bench, name: str = "db_password", *, key: str | None = None, **body: Any) -> Answered[Metadata]:
    request = CreateSecret(name=name, **{"value": "v1"} | body)
    return await bench.service.create(bench.caller(), request, idempotency_key=key)


async def put(bench: Bench, value: str, *, key: str | None = None) -> Answered[Metadata]:
    return await bench.service.update(
        bench.caller(), "db_password", PutSecret(value=value), if_match=None, idempotency_key=key
    )


async def value_of(bench: Bench, name: str = "db_password") -> str:
    found = await bench.service.read(bench.caller(), name, Selector(), if_none_match=None, min_generation=None)
    assert found.value.body is not None
    return found.value.body.value


async def slug_of(call: Any) -> str:
    with pytest.raises(Problem) as problem:
        await call
    return problem.value.slug


def changes(bench: Bench) -> list[tuple[str, int]]:
    return [(event.type, event.data["generation"]) for event in bench.events("secret.") if "generation" in event.data]


async def test_a_change_is_on_disk_then_in_the_log_then_in_force(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    written, appended, shown = bench.vault.write, bench.file.append, bench.vault.show

    def noted(what: str, call: Callable[..., None]) -> Callable[..., None]:
        def carried_out(*arguments: Any) -> None:
            order.append(what)
            call(*arguments)

        return carried_out

    monkeypatch.setattr(bench.vault, "write", noted("vault", written))
    monkeypatch.setattr(bench.file, "append", noted("line", appended))
    monkeypatch.setattr(bench.vault, "show", noted("force", shown))
    await create(bench)
    assert order == ["vault", "line", "force"]


async def test_the_document_on_disk_holds_the_events_of_its_commit_and_where_the_log_was(bench: Bench) -> None:
    await create(bench)
    before = bench.log.sequence, bench.log.head
    await put(bench, "v2")
    stored = bench.stored()
    assert [line.type for line in stored.outbox] == ["secret.updated"]
    assert (stored.audit.sequence, stored.audit.head) == before
    assert stored.generation == 2
    assert stored == bench.document


async def test_when_the_vault_can_not_be_written_nothing_has_changed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    before = bench.document
    spy(monkeypatch, "replace").fail(errno.ENOSPC)
    assert await slug_of(put(bench, "v2")) == "vault-unavailable"
    assert bench.document is before
    assert bench.stored() == before
    assert not bench.committer.unfinished
    assert changes(bench) == [("secret.created", 1)]
    await put(bench, "v3")
    assert changes(bench) == [("secret.created", 1), ("secret.updated", 2)]


async def test_when_the_line_can_not_be_written_the_outcome_is_unknown_and_nothing_is_shown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    spy(monkeypatch, "fdatasync").fail(errno.ENOSPC)
    assert await slug_of(put(bench, "v2")) == "outcome-unknown"
    assert (bench.document.generation, bench.stored().generation) == (1, 2)
    assert bench.committer.unfinished
    assert len(bench.done) == 1
    assert bench.service.health().status == "unavailable"


async def test_an_unfinished_change_comes_before_anything_that_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    spy(monkeypatch, "fdatasync").fail(times=2)
    assert await slug_of(put(bench, "v2")) == "outcome-unknown"
    assert await slug_of(value_of(bench)) == "audit-unavailable"
    assert await value_of(bench) == "v2"
    assert [event.type for event in bench.events("secret.")] == ["secret.created", "secret.updated", "secret.read"]


async def test_an_unfinished_change_is_completed_first_when_the_next_one_comes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    spy(monkeypatch, "fdatasync").fail(times=2)
    assert await slug_of(put(bench, "v2")) == "outcome-unknown"
    assert await slug_of(put(bench, "v3")) == "audit-unavailable"
    await put(bench, "v4")
    assert changes(bench) == [("secret.created", 1), ("secret.updated", 2), ("secret.updated", 3)]
    assert [done.document.generation for done in bench.done] == [1, 2, 3]
    assert await value_of(bench) == "v4"


async def test_an_unfinished_change_is_completed_by_the_schedule_though_nobody_asks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    spy(monkeypatch, "fdatasync").fail()
    assert await slug_of(put(bench, "v2")) == "outcome-unknown"
    await bench.scheduler.tick()
    assert not bench.committer.unfinished
    assert bench.service.health().status == "ok"
    assert await value_of(bench) == "v2"


async def test_lines_that_a_rotated_file_has_already_are_not_written_as_new_ones(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    rotated = bench.audit_path.rename(bench.audit_path.with_name("audit.jsonl.1"))
    disk = spy(monkeypatch, "write")
    bench.committer._reserve = OneReserve(disk)
    disk.fail(errno.ENOSPC, after=2)  # vault.json, the rotated file, and then the new one
    assert await slug_of(put(bench, "v2")) == "outcome-unknown"
    await put(bench, "v3")
    told = [event.data["generation"] for event in whole_chain(bench.key, [rotated, bench.audit_path])]
    assert told == [1, 2, 3]
    assert await value_of(bench) == "v3"


async def test_a_document_that_may_not_survive_a_crash_is_not_told_of(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    # The second sync of a commit is that of the folder.
    spy(monkeypatch, "fsync").fail(after=1, times=1)
    assert await slug_of(put(bench, "v2")) == "outcome-unknown"
    assert changes(bench) == [("secret.created", 1)]
    assert bench.document.generation == 1
    await put(bench, "v3")
    assert changes(bench) == [("secret.created", 1), ("secret.updated", 2), ("secret.updated", 3)]


async def test_while_a_document_is_uncertain_other_changes_are_refused_as_not_made(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    spy(monkeypatch, "fsync").fail(after=1, times=2)
    assert await slug_of(put(bench, "v2")) == "outcome-unknown"
    assert await slug_of(put(bench, "v3")) == "vault-unavailable"
    assert bench.service.health().reason == "a change waits for its audit line"
    # Who reads is given what was before, and completes nothing: a crash may bring it back.
    assert await value_of(bench) == "v1"
    assert changes(bench) == [("secret.created", 1)]
    await put(bench, "v4")
    assert changes(bench)[1:] == [("secret.updated", 2), ("secret.updated", 3)]
    assert await value_of(bench) == "v4"


class OneReserve(Reserve):
    """Space that can be given up once; then the disk takes writes again."""

    def __init__(self, disk: Call) -> None:
        super().__init__([])
        self._disk = disk

    def give_up(self, *, for_lines: bool = True) -> bool:
        freed, self.spent = not self.spent, True
        if freed:
            self._disk.fail(times=0)
        return freed


@pytest.mark.parametrize("call", ["replace", "fdatasync"])
async def test_on_a_full_disk_the_reserve_is_for_changes_by_hand(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await create(bench)
    disk = spy(monkeypatch, call)
    bench.committer._reserve = OneReserve(disk)
    disk.fail(errno.ENOSPC, times=10)
    assert (await put(bench, "v2")).value.version == 2
    disk.fail(errno.ENOSPC, times=10)
    assert await slug_of(put(bench, "v3")) in {"vault-unavailable", "outcome-unknown"}


async def test_on_a_full_disk_the_schedule_leaves_the_reserve_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench, "auto_key", value="dmFsdWU")
    disk = spy(monkeypatch, "replace")
    reserve = bench.committer._reserve = OneReserve(disk)
    bench.clock.advance(30 * 86_400_000)
    disk.fail(errno.ENOSPC)
    assert await slug_of(bench.scheduler.tick()) == "vault-unavailable"
    assert not reserve.spent


async def test_a_power_cut_before_the_vault_is_written_leaves_the_state_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    spy(monkeypatch, "replace").cut_power()
    with pytest.raises(PowerCut):
        await put(bench, "v2")
    monkeypatch.undo()
    assert bench.stored().generation == 1


async def test_a_caller_who_goes_away_does_not_stop_a_change(bench: Bench) -> None:
    change = asyncio.ensure_future(create(bench))
    while bench.committer._turn.locked() is False:  # noqa: ASYNC110 — the turn is taken within a few steps
        await asyncio.sleep(0)
    change.cancel()
    with pytest.raises(asyncio.CancelledError):
        await change
    await bench.committer.close()
    assert bench.document.generation == 1


async def test_changes_that_come_together_are_made_one_after_the_other(bench: Bench) -> None:
    await asyncio.gather(*(create(bench, f"s{number}") for number in range(20)))
    assert [done.document.generation for done in bench.done] == list(range(1, 21))
    assert [generation for _, generation in changes(bench)] == list(range(1, 21))


async def test_an_unforeseen_error_in_the_making_leaves_everything_as_it_was(bench: Bench) -> None:
    def build(*_: Any) -> Any:
        raise Problem("exists", "no")

    assert await slug_of(bench.committer.commit(build)) == "exists"
    assert bench.document.generation == 0
    await create(bench)


# Idempotency-Key


async def test_a_repeated_request_is_answered_as_done_and_changes_nothing(bench: Bench) -> None:
    first = await create(bench, key="k")
    again = await create(bench, key="k")
    assert again.value == first.value
    assert bench.document.generation == 1
    assert len(changes(bench)) == 1


async def test_a_retry_after_an_unknown_outcome_completes_the_change_and_makes_no_second_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    spy(monkeypatch, "fdatasync").fail()
    assert await slug_of(put(bench, "v2", key="k")) == "outcome-unknown"
    answer = await put(bench, "v2", key="k")
    assert (answer.value.version, bench.document.generation) == (2, 2)
    assert len(changes(bench)) == 2


async def test_a_retry_after_a_refusal_is_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(bench)
    spy(monkeypatch, "replace").fail()
    assert await slug_of(put(bench, "v2", key="k")) == "vault-unavailable"
    assert (await put(bench, "v2", key="k")).value.version == 2


async def test_a_key_used_for_another_request_is_refused(bench: Bench) -> None:
    await create(bench, key="k")
    assert await slug_of(put(bench, "v2", key="k")) == "invalid-request"
    assert await slug_of(create(bench, value="other", key="k")) == "invalid-request"
    assert bench.document.generation == 1


async def test_a_key_used_for_another_action_on_the_same_name_is_refused(bench: Bench) -> None:
    await create(bench)
    await bench.service.delete(bench.caller(), "db_password", idempotency_key="a")
    assert await slug_of(bench.service.cancel(bench.caller(), "db_password", idempotency_key="a")) == "invalid-request"


async def test_a_key_of_one_client_says_nothing_of_what_another_asks_with_it(tmp_path: Path) -> None:
    policy = POLICY.replace('backend: {allow: ["db_*"]}', 'backend: {allow: ["db_*"], can: [read, write]}')
    bench = Bench(tmp_path, policy=policy)
    await create(bench)
    await put(bench, "v2", key="k")
    other = bench.caller("backend")
    answer = await bench.service.update(other, "db_password", PutSecret(value="v2"), if_match=None, idempotency_key="k")
    assert answer.value.version == 3
    await bench.close()


async def test_keys_hold_for_a_day(bench: Bench) -> None:
    await create(bench)
    await put(bench, "v2", key="k")
    bench.clock.advance(86_400_000 - 1)
    assert (await put(bench, "v2", key="k")).value.version == 2
    bench.clock.advance(1)
    assert (await put(bench, "v2", key="k")).value.version == 3


async def test_a_key_is_remembered_over_a_restart_and_not_readable_in_the_vault(bench: Bench) -> None:
    await create(bench, key="planted-key")
    raw = bench.vault.path.read_bytes()
    assert b"planted-key" not in raw
    assert len(bench.stored().receipts) == 1


# After a restart


async def restarted(bench: Bench) -> tuple[Committer, Vault, AuditLog]:
    """Open vault and log as they lie there, the log's chain going on from its last line."""
    vault = Vault.load(bench.vault.path, MASTER)
    events = bench.events()
    chain = Chain(log_id="log", node="pi", key=bench.key)
    for event in events:
        chain.append(event.type, event.subject, event.data, event.time)
    log = AuditLog(LineFile(bench.audit_path), chain, bench.clock, bench.metrics)
    return Committer(vault, log, bench.metrics, Reserve([])), vault, log


async def test_a_change_whose_line_is_missing_is_completed_by_the_next_daemon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bench)
    spy(monkeypatch, "fdatasync").fail()
    assert await slug_of(put(bench, "v2")) == "outcome-unknown"
    committer, vault, log = await restarted(bench)
    committer.resume(vault.document)
    await committer.finish()
    await committer.finish()
    assert changes(bench) == [("secret.created", 1), ("secret.updated", 2)]
    assert vault.open("db_password", vault.document.secrets["db_password"].current) == Sensitive(b"v2")
    await committer.close()
    await log.close()


# No value in what is written down


async def test_neither_log_nor_vault_holds_a_value(bench: Bench, tmp_path: Path) -> None:
    await create(bench, value="planted-value")
    await put(bench, "planted-too")
    rotate = RotateRequest(names=["db_password"], reason="because")
    await bench.service.rotate(bench.caller(), rotate, idempotency_key="planted-key")
    assert await value_of(bench) not in bench.audit_path.read_text()
    for file in tmp_path.iterdir():
        assert b"planted" not in file.read_bytes()
