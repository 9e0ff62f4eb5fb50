"""A disk that fails when told: system calls that raise, or stop the process at their moment."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class PowerCut(BaseException):
    """The machine stops here. No handler of the code under test may run on it as if it were an error."""


class Call:
    """One system call, counted; fails as often as told, then works again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self._real: Callable[..., Any] = getattr(owner, name)
        self._failures: list[BaseException] = []
        self._from = 0
        self.count = 0
        monkeypatch.setattr(owner, name, self)

    def __get__(self, instance: object, owner: object) -> Callable[..., Any]:
        """Bind like a method where one is replaced."""
        return lambda *args, **named: self(instance, *args, **named)

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.count += 1
        if self._failures and self.count >= self._from:
            raise self._failures.pop()
        return self._real(*args, **named)

    def fail(self, number: int = errno.EIO, *, times: int = 1, after: int = 0) -> None:
        """Raise OSError `number` in the next `times` calls, once `after` more have worked."""
        self._failures = [OSError(number, os.strerror(number)) for _ in range(times)]
        self._from = self.count + after + 1

    def cut_power(self, *, after: int = 0) -> None:
        """Raise PowerCut in the next call, once `after` more have worked."""
        self._failures = [PowerCut()]
        self._from = self.count + after + 1


def spy(monkeypatch: pytest.MonkeyPatch, name: str) -> Call:
    """Put a Call in the place of `os.NAME`, or of `Path.NAME` where os is not what the code calls."""
    return Call(monkeypatch, Path if name in {"replace", "unlink"} else os, name)
