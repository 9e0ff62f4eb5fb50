"""Where a template's values come from: the client, which also tells of their changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from secretsd_client import AccessDenied, AsyncSecretsClient, Secret, SecretNotFound, SecretsError, SecretsUnavailable

from secretsd.cli.errors import Failed, Unreachable
from secretsd.cli.rendering.template import BadTemplate, Rendered, Template


class Sources:
    """The secrets that templates ask for."""

    def __init__(self, client: AsyncSecretsClient, *, acknowledge: bool) -> None:
        self._client = client
        self._acknowledge = acknowledge
        self.watched: set[str] = set()
        self._tell: Callable[[], None] | None = None

    def watch(self, tell: Callable[[], None]) -> None:
        """From now on, call `tell` when a secret that was asked for has changed and its new value is there."""
        self._tell = tell

    def in_force(self, secrets: Iterable[Secret]) -> None:
        """Tell the daemon that these versions are in use, of the secrets whose changes are heard of."""
        if self._acknowledge:
            for secret in secrets:
                if secret.name in self.watched:
                    self._client.acknowledge(secret)

    async def render(self, template: Template, secrets: dict[str, Secret]) -> Rendered:
        """Return what the template becomes, with `secrets` and what is fetched besides, which is added to them.

        Raises Failed: with a slug where the daemon or the template refuses, so that asking again would not help.
        """
        while True:
            try:
                made = template.render(secrets)
            except BadTemplate as error:
                raise Failed(str(error), slug="bad-template") from None
            if isinstance(made, Rendered):
                return made
            secrets[made.name] = await self._obtain(made.name)

    async def _obtain(self, name: str) -> Secret:
        """Return a secret, and hear of its changes from then on: what changes between the two fetches is the second."""
        secret = await self._fetch(name)
        tell = self._tell
        if tell is None or name in self.watched:
            return secret
        await self._client.on_change(name, lambda _: tell())
        self.watched.add(name)
        return await self._fetch(name)

    async def _fetch(self, name: str) -> Secret:
        try:
            return await self._client.get(name)
        except SecretsUnavailable as error:
            failed: Failed = Unreachable(str(error), hint="is the daemon running? --url says where it is")
        except SecretNotFound as error:
            failed = Failed(str(error), slug="not-found")
        except AccessDenied as error:
            failed = Failed(f"{name}: {error}", slug="forbidden")
        except SecretsError as error:
            failed = Failed(f"{name}: {error}")
        raise failed
