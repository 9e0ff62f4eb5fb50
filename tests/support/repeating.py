"""Something that is done again and again beside a test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from tests.support.waiting import PATIENCE_SECS, eventually


class Repeating:
    """Does `what` on a thread of its own, `pause_secs` apart, until the context ends.

    An error ends it, and is raised where the context ends.
    """

    def __init__(self, what: Callable[[], object], pause_secs: float = 0.02) -> None:
        self.times = 0
        """How often it is done."""
        self._what = what
        self._pause = pause_secs
        self._ends = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def wait(self, more: int, *, within: float = PATIENCE_SECS) -> None:
        """Wait until it is done so many more times."""
        wanted = self.times + more
        eventually(lambda: self.times >= wanted or self._failure, f"it is done {more} times more", within=within)

    def _run(self) -> None:
        try:
            while not self._ends.wait(self._pause):
                self._what()
                self.times += 1
        except BaseException as failure:  # noqa: BLE001 — raised in the test's own thread
            self._failure = failure
