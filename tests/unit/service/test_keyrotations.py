"""Rotations of the daemon's own keys, killed before each of their writes and begun again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta
from secretsd_bus import VerifyKey, follow_published

from secretsd.audit import linefile
from secretsd.audit.verifier import verify_files
from secretsd.crypto import masterkey
from secretsd.crypto.masterkey import Argon2Parameters
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import passphrase
from secretsd.errors import KeyFileError, Problem, VaultError
from secretsd.model import CreateSecret, KeyKind, KeyRotated, PutSecret, RotateKeyRequest
from secretsd.service import Selector
from secretsd.vault.vault import Vault
from tests.unit.support.clock import DAY_MS
from tests.unit.support.core import MASTER, Bench
from tests.unit.support.disk import spy

NEW = "the new passphrase"


class Cheap(Argon2Parameters, frozen=True):
    memory_kib: Annotated[int, Meta(ge=32, le=4 * 1024 * 1024)] = 64
    iterations: Annotated[int, Meta(ge=1, le=64)] = 1


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretch with little memory: what is tested here does not depend on how much."""
    monkeypatch.setattr(masterkey, "Argon2Parameters", Cheap)
    monkeypatch.delenv(passphrase.FILE_VARIABLE, raising=False)


class Killed(BaseException):
    """The process is no more: nothing that comes after it is done either."""


class Disk:
    """Counts the calls that make something durable or visible, and ends the process before the one that is due."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kill_before: int | None = None) -> None:
        self.calls = 0
        self.died = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._due = kill_before
        for owner, name in ((os, "fsync"), (os, "fdatasync"), (Path, "replace"), (os, "write")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    @property
    def killed(self) -> bool:
        return self._due is not None and self.calls >= self._due

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.calls += 1
            if self.killed:
                self._loop.call_soon_threadsafe(self.died.set)
                raise Killed
            return call(*arguments)

        return counted


async def filled(bench: Bench) -> None:
    await bench.service.create(bench.caller(), CreateSecret(name="db_password", value="v1"), idempotency_key=None)
    update = PutSecret(value="v2")
    await bench.service.update(bench.caller(), "db_password", update, if_match=None, idempotency_key=None)


async def rotate(bench: Bench, key: KeyKind, idempotency_key: str | None = None) -> KeyRotated:
    given = {"passphrase": NEW} if key == "passphrase" else {}
    body = RotateKeyRequest(key=key, reason="by habit", **given)
    return (await bench.service.rotate_key(bench.caller(), body, idempotency_key=idempotency_key)).value


async def values(bench: Bench) -> list[str]:
    found = []
    for version in (1, 2):
        answer = await bench.service.read(
            bench.caller(), "db_password", Selector(version=version), if_none_match=None, min_generation=None
        )
        assert answer.value.body is not None
        found.append(answer.value.body.value)
    return found


def kept(bench: Bench) -> int:
    """Return how many keys master.key and audit.sign.key hold together."""
    path = bench.core.master_file.path
    return len(masterkey.wrappings(path.read_bytes(), path)) + len(bench.core.key_files.candidates())


@pytest.mark.parametrize("key", ["data", "master"])
async def test_every_value_is_under_other_keys_and_reads_as_before(bench: Bench, key: KeyKind) -> None:
    await filled(bench)
    before = bench.document
    done = await rotate(bench, key)
    assert done.generation == before.generation + 1 == bench.document.generation
    old, new = before.secrets["db_password"], bench.document.secrets["db_password"]
    assert [one.kid for one in old.versions] == [one.kid for one in new.versions]
    assert {one.ciphertext for one in old.versions}.isdisjoint(one.ciphertext for one in new.versions)
    assert await values(bench) == ["v1", "v2"]
    assert bench.document.format == 2
    opens = Vault.load(bench.vault.path, MASTER) if key == "data" else None
    if opens is None:
        with pytest.raises(VaultError):
            Vault.load(bench.vault.path, MASTER)
    assert kept(bench) == 2


async def test_the_log_says_which_key_by_whom_and_why(bench: Bench) -> None:
    for key in ("data", "master", "passphrase"):
        await rotate(bench, key)
    told = [event.data for event in bench.events("vault.key_rotated")]
    assert [(one["key"], one["client"], one["reason"]) for one in told] == [
        (key, "admin", "by habit") for key in ("data", "master", "passphrase")
    ]
    assert NEW.encode() not in bench.audit_path.read_bytes()
    assert NEW.encode() not in bench.vault.path.read_bytes()


async def test_no_passphrase_opens_the_key_that_the_log_does_not_know_of(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bench.core.master_file.path
    before = file.read_bytes()
    spy(monkeypatch, "fdatasync").fail()
    with pytest.raises(Problem, match="its audit line is not"):
        await rotate(bench, "passphrase")
    assert file.read_bytes() == before


async def test_the_log_verifies_with_its_first_key_over_every_rotation_of_it(bench: Bench) -> None:
    first = bench.key.public
    for _ in range(3):
        await rotate(bench, "signing")
        await filled_again(bench)
    report = verify_files([bench.audit_path], first)
    assert report.last == bench.log.sequence
    assert verify_files([bench.audit_path], None).last == bench.log.sequence  # audit.sign.pub is kept up to date
    newest = bench.core.event_keys.current.public
    public = bench.core.key_files.public.read_bytes()
    assert VerifyKey.from_pem(public) == newest
    keys: Any = bench.service.event_keys()["keys"]
    assert keys[0]["kid"] == newest.keyid
    assert [one["last_sequence"] for one in keys[1:]] == sorted(
        (one["last_sequence"] for one in keys[1:]), reverse=True
    )
    assert follow_published(first, keys)[0] == newest


async def filled_again(bench: Bench) -> None:
    name = f"n{bench.document.generation}"
    await bench.service.create(bench.caller(), CreateSecret(name=name, value="v"), idempotency_key=None)


async def test_who_may_everything_but_admin_rotates_no_key(tmp_path: Path) -> None:
    bench = Bench(tmp_path, policy='clients:\n  admin: {allow: ["*"]}\n')
    for key in ("data", "signing", "master", "passphrase"):
        with pytest.raises(Problem) as problem:
            await rotate(bench, key)
        assert problem.value.slug == "forbidden"
    assert [event.data["action"] for event in bench.events("access.denied")] == ["rotate-key"] * 4
    await bench.close()


@pytest.mark.parametrize("key", ["data", "signing", "master"])
async def test_the_same_request_again_rotates_once_and_leaves_no_key_behind(bench: Bench, key: KeyKind) -> None:
    first = await rotate(bench, key, "once")
    assert await rotate(bench, key, "once") == first
    assert len(bench.core.event_keys.past) == (key == "signing")
    assert kept(bench) == 2


async def test_an_answer_of_before_a_rotation_is_known_again_after_it(bench: Bench) -> None:
    body = CreateSecret(name="db_password", value="v1")
    made = await bench.service.create(bench.caller(), body, idempotency_key="k")
    await rotate(bench, "master")
    again = await bench.service.create(bench.caller(), body, idempotency_key="k")
    assert again.value == made.value


async def test_a_read_that_began_before_a_rotation_is_answered_with_its_value(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(bench)
    audited = bench.service._audit_read

    async def rotated_meanwhile(*arguments: Any, **named: Any) -> None:
        await audited(*arguments, **named)
        monkeypatch.setattr(bench.service, "_audit_read", audited)
        await rotate(bench, "master")

    monkeypatch.setattr(bench.service, "_audit_read", rotated_meanwhile)
    assert await values(bench) == ["v1", "v2"]


async def test_what_the_schedule_changes_after_a_rotation_opens(bench: Bench) -> None:
    body = CreateSecret(name="auto_x", value="v1")
    await bench.service.create(bench.caller(), body, idempotency_key=None)
    await rotate(bench, "master")
    bench.clock.advance(31 * DAY_MS)
    bench.core.guard.check()
    await bench.scheduler.tick()
    record = bench.document.secrets["auto_x"]
    assert len(record.versions) == 2
    assert bench.vault.open("auto_x", record.versions[1]).reveal() == b"v1"


async def test_a_key_can_be_rotated_again_at_once(bench: Bench) -> None:
    await filled(bench)
    for key in ("master", "data", "signing", "master", "signing", "data"):
        await rotate(bench, key)
    assert await values(bench) == ["v1", "v2"]
    assert kept(bench) == 2


@pytest.mark.parametrize("key", ["data", "master", "signing", "passphrase"])
async def test_killed_before_any_write_the_vault_opens_and_the_log_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: KeyKind
) -> None:
    """And asked for again the rotation is done, whatever the first one came to."""
    kill_before = 0
    while True:
        kill_before += 1
        folder = tmp_path / str(kill_before)
        folder.mkdir()
        bench = Bench(folder)
        first = bench.key.public
        await filled(bench)
        with monkeypatch.context() as patch:
            disk = Disk(patch, kill_before)
            await until_it_dies(disk, rotate(bench, key, "k"))
            killed = disk.killed
        bench.log._thread.stop()

        begun = Bench(folder, again=True)
        await begun.begin_again()
        assert await values(begun) == ["v1", "v2"]
        assert kept(begun) == (3 if begun.core.master_file.awaits_passphrase else 2)
        await rotate(begun, key, "k")
        assert await values(begun) == ["v1", "v2"]
        assert begun.core.event_keys.current.public == follow_published(first, begun.service.event_keys()["keys"])[0]  # type: ignore[arg-type]
        told = begun.events("audit.key_rotated" if key == "signing" else "vault.key_rotated", first)
        assert len(told) == 1 or (key == "passphrase" and len(told) == 2)
        if key == "passphrase":
            path = begun.core.master_file.path
            opened = masterkey.open_all(path.read_bytes(), path, Sensitive(NEW.encode()))
            assert opened[-1] is not None
            assert opened[-1].master == MASTER
        await begun.close()
        Bench(folder, again=True)
        if not killed:
            break
    assert kill_before > 6


async def until_it_dies(disk: Disk, work: Coroutine[Any, Any, object]) -> None:
    """Let `work` go on to its end or its process's; nothing of it goes on after that."""
    ends = {asyncio.ensure_future(work), asyncio.ensure_future(disk.died.wait())}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, *ends, return_exceptions=True)


def given(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let a start be given this passphrase."""
    file = folder / "passphrase"
    file.write_text(text + "\n")
    monkeypatch.setenv(passphrase.FILE_VARIABLE, str(file))


async def test_a_changed_passphrase_and_the_old_one_open_the_key_until_a_start_is_given_the_new_one(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(bench)
    given(tmp_path, monkeypatch, "the old one")
    bench.core.master_file.add_passphrase(Sensitive(b"the old one"))
    bench.core.master_file.settle(bench.vault.keys.master)
    assert (await rotate(bench, "passphrase")).passphrase_pending
    for text in ("the old one", NEW):
        given(tmp_path, monkeypatch, text)
        Bench(tmp_path, again=True)
    await bench.service.tidy_keys()  # as a reload does
    assert not bench.core.master_file.awaits_passphrase
    assert await values(Bench(tmp_path, again=True)) == ["v1", "v2"]
    given(tmp_path, monkeypatch, "the old one")
    with pytest.raises(KeyFileError, match="another one"):
        Bench(tmp_path, again=True)


async def test_a_passphrase_that_a_start_would_be_given_already_replaces_the_old_one_at_once(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, monkeypatch, NEW)
    assert not (await rotate(bench, "passphrase")).passphrase_pending
    assert kept(bench) == 2
    assert bench.core.master_file.is_wrapped
    await rotate(bench, "master")  # and goes on to be under it
    assert bench.core.master_file.is_wrapped
    Bench(tmp_path, again=True)


async def test_the_master_key_is_not_rotated_while_a_passphrase_is_pending(bench: Bench) -> None:
    await rotate(bench, "passphrase")
    with pytest.raises(Problem) as problem:
        await rotate(bench, "master")
    assert problem.value.slug == "passphrase-pending"
    await rotate(bench, "data")


async def test_a_line_that_cannot_be_written_leaves_both_keys_until_it_can(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(bench)
    for key in ("signing", "master"):
        with monkeypatch.context() as patch:
            patch.setattr(linefile.os, "fdatasync", _no_space)
            with pytest.raises(Problem) as problem:
                await rotate(bench, key)
            assert problem.value.slug == "outcome-unknown"
            assert kept(bench) == 3
        await bench.committer.finish()
        await bench.service.tidy_keys()
        assert kept(bench) == 2
    assert await values(bench) == ["v1", "v2"]
    assert len(bench.core.event_keys.past) == 1


async def test_a_key_file_that_cannot_be_written_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(bench)
    before = bench.document, bench.core.event_keys.current
    for key in ("signing", "master"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _no_space)
            with pytest.raises(Problem) as problem:
                await rotate(bench, key)
            assert problem.value.slug == "vault-unavailable"
    assert (bench.document, bench.core.event_keys.current) == before
    await rotate(bench, "master")
    assert await values(bench) == ["v1", "v2"]


async def test_a_signing_key_of_another_time_than_the_log_does_not_go_on_with_it(bench: Bench, tmp_path: Path) -> None:
    old = bench.key
    await filled(bench)
    await rotate(bench, "signing")
    new = bench.core.key_files.private.read_bytes()
    before_rotation = bench.audit_path.read_bytes().splitlines(keepends=True)[:-1]
    for key, more in ((old.to_pem(), True), (new, False)):
        bench.core.key_files.private.write_bytes(key)
        if not more:
            bench.audit_path.write_bytes(b"".join(before_rotation))
        with pytest.raises(KeyFileError, match=r"audit\.sign\.key is not the key that the log .* goes on with"):
            Bench(tmp_path, again=True)


async def test_lost_keys_of_the_past_are_read_from_the_log_again(bench: Bench, tmp_path: Path) -> None:
    for _ in range(2):
        await rotate(bench, "signing")
    before = bench.service.event_keys()
    bench.core.key_files.past.unlink()
    assert Bench(tmp_path, again=True).service.event_keys() == before


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format":1,"past":[{"x":"AA","rotated":"{}"}]}'])
async def test_edited_keys_of_the_past_are_a_refusal_that_says_what_to_do(
    bench: Bench, tmp_path: Path, damage: bytes
) -> None:
    await rotate(bench, "signing")
    bench.core.key_files.past.write_bytes(damage)
    with pytest.raises(KeyFileError, match="move it away"):
        Bench(tmp_path, again=True)


def _no_space(_: int) -> None:
    raise OSError(28, "No space left on device")
