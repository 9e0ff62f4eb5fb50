from __future__ import annotations

import errno

import pytest

from secretsd.audit.log import Entry
from secretsd.errors import AuditWriteError, Problem
from secretsd.model import CreateSecret
from secretsd.reserve import FILE_NAME, RESERVED_BYTES, Reserve
from secretsd.service.recovery import look
from tests.unit.support.core import Bench
from tests.unit.support.disk import spy


async def fail_to_write(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        spy(patch, "fdatasync").fail(errno.ENOSPC)
        with pytest.raises(AuditWriteError):
            await bench.log.append(Entry("secret.read", None, {}))
    assert bench.service.health().status == "unavailable"


async def test_a_log_that_can_be_written_again_is_healthy_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await fail_to_write(bench, monkeypatch)
    await look(bench.core)
    assert bench.service.health().status == "ok"
    assert {path.name for path in bench.folder.iterdir()} <= {
        "audit.jsonl", "audit.sign.key", "audit.sign.pub", "config.toml", "master.key", "policy.yaml", "vault.json",
    }  # fmt: skip


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
async def test_while_there_is_no_room_beside_the_log_it_is_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await fail_to_write(bench, monkeypatch)
    spy(monkeypatch, call).fail(errno.ENOSPC)
    await look(bench.core)
    assert bench.service.health().status == "unavailable"
    await look(bench.core)
    assert bench.service.health().status == "ok"


async def test_a_change_that_waited_for_its_line_is_completed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        spy(patch, "fdatasync").fail(errno.EIO)
        with pytest.raises(Problem, match="its audit line is not"):
            await bench.service.create(bench.caller(), CreateSecret(name="x", value="v"), idempotency_key=None)
    await look(bench.core)
    assert (bench.document.generation, bench.service.health().status) == (1, "ok")


async def test_a_reserve_that_is_missing_is_taken_once_there_is_room(bench: Bench) -> None:
    bench.core.reserve = Reserve([bench.folder, bench.folder])
    await look(bench.core)
    assert (bench.folder / FILE_NAME).stat().st_size == RESERVED_BYTES


async def test_a_disk_that_is_kept_for_changes_by_hand_can_not_serve(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve([bench.folder, bench.folder])
    assert reserve.take()
    bench.core.reserve = reserve
    reserve.give_up()
    assert bench.service.health().status == "unavailable"
    with monkeypatch.context() as patch:
        patch.setattr(reserve, "take", lambda: False)
        with pytest.raises(Problem, match="what is left is kept for changes by hand"):
            await bench.service.list_secrets(bench.caller())
    await look(bench.core)
    assert bench.service.health().status == "ok"
