"""Which password the daemon tries at the broker, and when a connection has to be made anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from secretsd_bus import BusLost, BusRejected, Link, Will

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import AuditWriteError
from secretsd.outbox.login import Login
from secretsd.vault.document import SecretRecord

WILL = Will("t", b"offline")


class Broker:
    """Takes some passwords; the file's is None."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *taken: str | None, code: int = 0x87) -> None:
        self.taken = taken
        self.tried: list[str | None] = []

        async def connect(_settings: object, *, password: str | None, **_more: object) -> object:
            self.tried.append(password)
            if password not in self.taken:
                raise BusRejected("no", code)
            return object()

        monkeypatch.setattr(Link, "connect", connect)


def login(*candidates: tuple[str, str], file: bool = True) -> Login:
    async def known() -> Sequence[tuple[str, Sensitive]]:
        return [(kid, Sensitive(value.encode())) for kid, value in candidates]

    bus = SimpleNamespace(password_file=Path("f") if file else None, password_secret="bus", settings=lambda: None)
    return Login(cast("Any", bus), known)


def current(kid: str) -> dict[str, SecretRecord]:
    return {"bus": cast("SecretRecord", SimpleNamespace(current=SimpleNamespace(kid=kid)))}


async def tried(broker: Broker, made: Login) -> list[str | None]:
    await made.connect("id", WILL, lambda _: None)
    return broker.tried


async def test_the_candidates_are_tried_in_order_and_the_file_last(monkeypatch: pytest.MonkeyPatch) -> None:
    made = login(("k2", "new"), ("k1", "old"))
    assert await tried(Broker(monkeypatch, "new"), made) == ["new"]
    assert await tried(Broker(monkeypatch, "old"), made) == ["new", "old"]
    assert await tried(Broker(monkeypatch, None), made) == ["new", "old", None]


async def test_without_a_file_and_without_the_secret_it_connects_without_a_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await tried(Broker(monkeypatch, None), login(file=False)) == [None]
    broker = Broker(monkeypatch)
    with pytest.raises(BusRejected):
        await tried(broker, login(("k1", "old"), file=False))
    assert broker.tried == ["old"]


async def test_a_refusal_that_no_password_changes_ends_the_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, code=0x88)
    with pytest.raises(BusRejected):
        await tried(broker, login(("k2", "new"), ("k1", "old")))
    assert broker.tried == ["new"]


async def test_a_connection_is_outdated_by_a_version_that_was_never_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change may come while the connection is being made; and what was refused is not tried for ever."""
    made = login(("k2", "new"), ("k1", "old"))
    await tried(Broker(monkeypatch, "old"), made)
    assert not made.outdated(current("k2")), "it was refused a moment ago"
    assert not made.outdated(current("k1")), "it is the one in use"
    assert made.outdated(current("k3"))
    assert not made.outdated({}), "the secret is gone"
    by_file = login()
    await tried(Broker(monkeypatch, None), by_file)
    assert by_file.outdated(current("k1")), "there is a secret now"


async def test_what_cannot_be_audited_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def full() -> Sequence[tuple[str, Sensitive]]:
        raise AuditWriteError("the disk is full")

    broker = Broker(monkeypatch, None)
    made = login()
    made._candidates = full
    with pytest.raises(BusLost, match="disk is full"):
        await tried(broker, made)
    assert broker.tried == []
