"""Who wants to be told of which secret's changes."""

import inspect
import logging
from collections.abc import Awaitable, Callable

from secretsd_client._model import Secret

Callback = Callable[[Secret], Awaitable[None] | None]

_log = logging.getLogger("secretsd_client")


class Watchers:
    """Callbacks by name, and the version that each name's callbacks know of."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}
        self._known: dict[str, str] = {}

    def add(self, name: str, callback: Callback, kid: str | None) -> bool:
        """Tell `callback` of versions other than `kid`; None: other than the next one seen.

        Returns whether `kid` is the first version known of a watched name.
        """
        self._callbacks.setdefault(name, []).append(callback)
        first = kid is not None and name not in self._known
        if kid is not None:
            self._known.setdefault(name, kid)
        return first

    def remove(self, name: str, callback: Callback) -> bool:
        """Stop telling; return whether nobody watches the name any more."""
        callbacks = self._callbacks.get(name, [])
        if callback in callbacks:
            callbacks.remove(callback)
        if callbacks:
            return False
        self._callbacks.pop(name, None)
        self._known.pop(name, None)
        return True

    def stored(self, secret: Secret) -> tuple[tuple[Callback, ...], bool]:
        """Return whom to tell, now that this version is in the cache, and whether it is the first of a watched name."""
        callbacks = self._callbacks.get(secret.name)
        if callbacks is None:
            return (), False
        before = self._known.get(secret.name)
        self._known[secret.name] = secret.kid
        return (() if before is None or before == secret.kid else tuple(callbacks)), before is None


async def tell(callback: Callback, secret: Secret) -> bool:
    """Call it, and await what it returns if need be; return whether it went well (errors are logged)."""
    try:
        result = callback(secret)
        if inspect.isawaitable(result):
            await result
    except Exception as error:  # noqa: BLE001 - somebody else's code; its message may hold the value
        log_failure(secret.name, error)
        return False
    return True


def log_failure(name: str, error: BaseException) -> None:
    """Log that a callback failed, without its message and its traceback's frames."""
    _log.error("on_change callback for %s raised %s", name, type(error).__name__)
