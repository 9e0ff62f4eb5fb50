"""Drop-in for the `secrets_client` module of Jarvis services: the same names, a live cache underneath.

New code imports `secretsd_client` itself. What changed for callers: a rotation reaches them, and errors are
`secretsd_client.SecretsError` instead of those of `requests`.
"""

import weakref
from typing import Self

import secretsd_client
from secretsd_client import Settings

__all__ = [
    "SecretsClient",
    "get_brave_api_key",
    "get_postgres_password",
    "get_secret",
    "get_tavily_api_key",
]


class SecretsClient(secretsd_client.SecretsClient):
    """A client, "python-services" unless JARVIS_CLIENT_ID names another; connects at the first read."""

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings.from_env(default_client_id="python-services")
        super().__init__(settings)
        self.base_url = settings.url
        self.client_id = settings.client_id
        _clients.add(self)

    @classmethod
    def from_env(cls) -> Self:
        """Return a client as the JARVIS_* variables say: the same as without an argument."""
        return cls()

    def get_secret(self, name: str) -> str:
        """Return the current value of a secret. `SecretsClient.get_secret.cache_clear()` drops what is cached."""
        return super().get_secret(name)


def _cache_clear() -> None:
    for client in tuple(_clients):
        client.clear_cache()


_clients: "weakref.WeakSet[SecretsClient]" = weakref.WeakSet()
SecretsClient.get_secret.cache_clear = _cache_clear  # type: ignore[attr-defined] # the method was an lru_cache once

_client = SecretsClient()


def get_secret(name: str) -> str:
    """Return the current value of a secret."""
    return _client.get_secret(name)


def get_brave_api_key() -> str:
    """Return `brave_api_key`."""
    return get_secret("brave_api_key")


def get_tavily_api_key() -> str:
    """Return `tavily_api_key`."""
    return get_secret("tavily_api_key")


def get_postgres_password() -> str:
    """Return `postgres_password`."""
    return get_secret("postgres_password")
