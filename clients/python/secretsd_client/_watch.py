"""Who wants to be told of which secret's changes."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from secretsd_client._model import Secret

Callback = Callable[[Secret], Awaitable[None] | None]

_log = logging.getLogger("secretsd_client")


_NOTHING = ""
"""Stands for the kid of what isn't there: the version that comes next is a change."""


@dataclass
class _Watching:
    callback: Callback
    known: str | None
    """The version that it changes from; None: whichever is seen next."""


class Watchers:
    """Callbacks by name, and the version that each one's owner has."""

    def __init__(self) -> None:
        self._watching: dict[str, list[_Watching]] = {}
        self._begun: set[str] = set()
        self.given: dict[str, str] = {}
        """By name, what the caller was last given, or began to watch from; readers on any thread write it."""

    def add(self, name: str, callback: Callback) -> None:
        """Tell `callback` of versions other than the one that the caller was given; of none: than the next one seen."""
        self._watching.setdefault(name, []).append(_Watching(callback, self.given.get(name)))

    def remove(self, name: str, callback: Callback) -> bool:
        """Stop telling; return whether nobody watches the name any more."""
        watching = self._watching.get(name, [])
        for one in watching:
            if one.callback == callback:
                watching.remove(one)
                break
        if watching:
            return False
        self._watching.pop(name, None)
        self._begun.discard(name)
        return True

    def stored(self, secret: Secret) -> tuple[tuple[Callback, ...], bool]:
        """Return whom to tell, now that this version is in the cache, and whether a name's watching begins with it."""
        watching = self._watching.get(secret.name)
        if watching is None:
            return (), False
        told = tuple(one.callback for one in watching if one.known not in {None, secret.kid})
        for one in watching:
            one.known = secret.kid
        self.given.setdefault(secret.name, secret.kid)
        begins = secret.name not in self._begun and not told
        self._begun.add(secret.name)
        return told, begins

    def hand_over(self, callback: Callback, secret: Secret) -> bool:
        """Return whether `callback` is to be called with it still, right now; may be called on any thread."""
        if not any(one.callback == callback for one in tuple(self._watching.get(secret.name, ()))):
            return False
        self.given[secret.name] = secret.kid
        return True

    def absent(self, name: str) -> None:
        """Note that there is no such secret: one that comes to be is a change for who watches the name."""
        for one in self._watching.get(name, []):
            if one.known is None:
                one.known = _NOTHING


async def tell(callback: Callback, secret: Secret) -> bool:
    """Call it, and await what it returns if need be; return whether it went well (errors are logged)."""
    try:
        result = callback(secret)
        if inspect.isawaitable(result):
            await result
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        log_failure(secret.name, error)  # what it waited for was cancelled, not we
        return False
    except Exception as error:  # noqa: BLE001 - somebody else's code; its message may hold the value
        log_failure(secret.name, error)
        return False
    return True


def log_failure(name: str, error: BaseException) -> None:
    """Log that a callback failed, without its message and its traceback's frames."""
    _log.error("on_change callback for %s raised %s", name, type(error).__name__)
