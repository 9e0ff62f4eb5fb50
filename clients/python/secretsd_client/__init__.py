"""Secrets from jarvis-secretsd, cached, and dropped the moment they are rotated.

    from secretsd_client import get_secret
    password = get_secret("postgres_password")

Only what this module exports is the API; everything in modules with an underscore may change.
"""

from secretsd_client._blocking import SecretsClient
from secretsd_client._client import AsyncSecretsClient, Watch
from secretsd_client._default import get_secret
from secretsd_client._errors import (
    AccessDenied,
    AuthenticationFailed,
    SecretNotFound,
    SecretsError,
    SecretsUnavailable,
)
from secretsd_client._http import HttpTransport, Response
from secretsd_client._model import Secret
from secretsd_client._settings import Settings
from secretsd_client._state import Times

__all__ = [
    "AccessDenied",
    "AsyncSecretsClient",
    "AuthenticationFailed",
    "HttpTransport",
    "Response",
    "Secret",
    "SecretNotFound",
    "SecretsClient",
    "SecretsError",
    "SecretsUnavailable",
    "Settings",
    "Times",
    "Watch",
    "get_secret",
]
