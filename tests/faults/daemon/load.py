"""Clients that never stop asking, and what they were answered."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from tests.support.daemon import Daemon
from tests.support.waiting import PATIENCE_SECS, eventually


class Load:
    """So many clients that read one secret again and again, each on one connection, until the context ends.

    `released` holds the X-Request-Id of each answer with a value, `values` counts the values, `statuses` all answers.
    `odd` holds answers other than 200 and 503, which nobody expects.
    """

    def __init__(self, daemon: Daemon, name: str, clients: int = 8) -> None:
        self.released: list[str] = []
        self.values: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.odd: list[tuple[int, bytes]] = []
        self._daemon = daemon
        self._path = f"/secret/{name}"
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECS)
            assert not thread.is_alive()
        if self._failure is not None and error is None:
            raise self._failure

    def wait_released(self, more: int) -> None:
        """Wait until so many more values have been released."""
        wanted = len(self.released) + more
        eventually(lambda: len(self.released) >= wanted or self._failure, f"{more} more reads are answered")

    def wait_refused(self) -> None:
        """Wait until a read that is asked for from now on has been refused."""
        before = self.statuses[503]
        eventually(lambda: self.statuses[503] > before or self._failure, "reads are refused")

    def _run(self) -> None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self._daemon.port, timeout=PATIENCE_SECS)
            while not self._ends.is_set():
                connection.request("GET", self._path, headers={"X-Jarvis-Client": "admin"})
                response = connection.getresponse()
                body = response.read()
                with self._lock:
                    self.statuses[response.status] += 1
                    if response.status == 200:
                        self.released.append(response.headers["X-Request-Id"])
                        self.values[json.loads(body)["value"]] += 1
                    elif response.status != 503:
                        self.odd.append((response.status, body))
            connection.close()
        except BaseException as failure:  # noqa: BLE001 — handed to the test's own thread
            self._failure = failure
