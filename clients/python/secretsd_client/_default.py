"""The process's own client, for `get_secret(name)` without further ado."""

import os
import threading

from secretsd_client._blocking import SecretsClient

_lock = threading.RLock()  # a signal handler may interrupt its holder, and come in again
_client: SecretsClient | None = None


def get_secret(name: str) -> str:
    """Return the current value of a secret, by a client that the JARVIS_* variables configure.

    The client is made at the first call, lives as long as the process, and begins anew after a fork. Raises
    what `SecretsClient.get` raises, and SecretsError for variables that make no sense.
    """
    client = _client
    return (client if client is not None else _made()).get_secret(name)


def _made() -> SecretsClient:
    global _client  # noqa: PLW0603 - the process-wide client is the point
    with _lock:
        if _client is None:
            made = SecretsClient.from_env()
            _client = _client or made
        return _client


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
