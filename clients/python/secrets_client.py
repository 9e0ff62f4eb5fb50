"""Drop-in for the `secrets_client` module of Jarvis services: the same names, a live cache underneath.

New code imports `secretsd_client` itself. What changed for callers: a rotation reaches them, and errors are
`secretsd_client.SecretsError` instead of those of `requests`.
"""

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

    def __init__(self) -> None:
        settings = Settings.from_env(default_client_id="python-services")
        super().__init__(settings)
        self.base_url = settings.url
        self.client_id = settings.client_id


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
