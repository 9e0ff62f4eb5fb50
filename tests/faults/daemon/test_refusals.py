"""Wrong tokens by the hundred: answered slowly, folded into few lines whose counts add up; others notice nothing."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from secretsd.service.refusals import BURST, FOLD_SECONDS, KINDS_MOST, REFILL_PER_SECOND
from tests.support.daemon import Daemon
from tests.support.waiting import eventually

TOKEN = "the right token"
POLICY: dict[str, Any] = {
    "default_deny": True,
    "clients": {
        "admin": {"allow": ["*"]},
        "guarded": {
            "allow": ["x"],
            "auth": [{"token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}],
        },
    },
}
GUESSES, AT_ONCE = 500, 50


def lines_most(began: float, kinds: int) -> float:
    """The burst, one a second, and one for each kind, up to 20 and the rest, that was folded in five seconds."""
    elapsed = time.monotonic() - began
    return BURST + elapsed * REFILL_PER_SECOND + (elapsed // FOLD_SECONDS + 2) * min(kinds, KINDS_MOST + 1)


def counted(daemon: Daemon, kind: str) -> int:
    return sum(line["data"]["count"] for line in daemon.events(kind))


@pytest.mark.slow
def test_five_hundred_wrong_tokens_are_few_lines_and_slow_answers(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=POLICY).start()
    daemon.api.create("x", "v")
    started = time.monotonic()
    statuses: Counter[int] = Counter()
    waits: list[float] = []
    good: list[float] = []
    lock, over = threading.Lock(), threading.Event()

    def guess() -> None:
        for number in range(GUESSES // AT_ONCE):
            began = time.monotonic()
            status = daemon.api.as_("guarded", f"guess {number}").get("/secret/x").status
            with lock:
                statuses[status] += 1
                if status == 401:
                    waits.append(time.monotonic() - began)

    def behave() -> None:
        while not over.is_set():
            began = time.monotonic()
            assert daemon.api.as_("guarded", TOKEN).value("x") == "v"
            good.append(time.monotonic() - began)

    behaving = threading.Thread(target=behave)
    behaving.start()
    guessing = [threading.Thread(target=guess) for _ in range(AT_ONCE)]
    for thread in guessing:
        thread.start()
    for thread in guessing:
        thread.join()
    over.set()
    behaving.join()

    assert set(statuses) <= {401, 429}
    assert sum(statuses.values()) == GUESSES
    # The first few cost nothing, an honest mistake; nearly all others wait for about two seconds.
    assert sorted(waits)[len(waits) // 2] > 1.5
    assert len(good) > 100
    assert sorted(good)[len(good) // 2] < 0.25
    eventually(lambda: counted(daemon, "access.failed") == GUESSES, "the counts add up", within=15)
    assert len(daemon.events("access.failed")) <= lines_most(started, 1)
    assert len(daemon.events("secret.read")) == len(good)
    daemon.verified_log()


def test_counts_are_written_at_the_end_too(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=POLICY).start()
    daemon.api.create("x", "v")
    began = time.monotonic()
    for _ in range(100):
        daemon.api.as_("nobody").get("/secret/x", {"Origin": "http://evil.example"}).refused(403, "foreign-request")
    daemon.terminate()
    assert counted(daemon, "access.denied") == 100
    assert len(daemon.events("access.denied")) <= lines_most(began, 1)


def test_many_kinds_of_refusals_are_few_lines_too(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy={**POLICY, "clients": {**POLICY["clients"], "poor": {"allow": ["nothing"]}}}).start()
    names = [f"n{number}" for number in range(60)]
    for name in names:
        daemon.api.create(name, "v")
    began = time.monotonic()
    for _ in range(5):
        for name in names:
            daemon.api.as_("poor").get(f"/secret/{name}").refused(403, "forbidden")
    daemon.terminate()
    assert counted(daemon, "access.denied") == 300
    assert len(daemon.events("access.denied")) <= lines_most(began, 60)
