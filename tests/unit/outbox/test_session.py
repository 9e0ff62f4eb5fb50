"""One broker connection: how it ends while the daemon ends too."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from secretsd_bus import SigningKey, Unchained

from secretsd.clock import SystemClock
from secretsd.outbox.session import Session


class Broker:
    """A link whose acknowledgements come when a test says so."""

    def __init__(self) -> None:
        self.published: list[asyncio.Future[None]] = []

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> asyncio.Future[None]:
        assert (topic, retain) == ("p/status/n", True)
        assert b"offline" in payload
        self.published.append(asyncio.get_running_loop().create_future())
        return self.published[-1]


def session(link: Broker) -> Session:
    sealer = Unchained(log_id="l", node="n", key=SigningKey.generate(), session=1)
    bus = SimpleNamespace(topic_prefix="p", node="n")
    others: Any = MagicMock()
    others.lanes = ()
    return Session(
        cast("Any", link), cast("Any", bus), sealer, others, others, others, others, SystemClock(), others, lambda: None
    )


async def test_who_ends_it_as_the_broker_takes_its_last_word_is_heard() -> None:
    link = Broker()
    signing_off = asyncio.create_task(session(link).sign_off())
    await asyncio.sleep(0)
    link.published[0].set_result(None)
    signing_off.cancel()
    with pytest.raises(asyncio.CancelledError):
        await signing_off
