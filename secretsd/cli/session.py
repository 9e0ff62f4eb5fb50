"""Calls to the daemon, one after the other, and its refusals as errors of ours."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import click
import msgspec
from secretsd_client import HttpTransport, Response, SecretsError, SecretsUnavailable
from secretsd_client._http import default_url  # the same default as the client's, of the same release

from secretsd.cli.errors import Failed, Unreachable
from secretsd.cli.options import Settings
from secretsd.model import Metadata, SecretList

T = TypeVar("T")

ANSWER_SECS: Final = 30.0
COMPLETION_SECS: Final = 1.0
RETRY_MOST_SECS: Final = 5.0

_HINTS: Final = {
    "missing-client": "say who you are: --client NAME or JARVIS_CLIENT_ID",
    "unknown-client": "is --client (or JARVIS_CLIENT_ID) one of the clients in policy.yaml?",
    "bad-credential": "give the client's token: --token-file FILE, JARVIS_CLIENT_TOKEN_FILE or JARVIS_CLIENT_TOKEN; "
    "or its certificate: --cert-file and --key-file",
    "value-required": "give the value that was issued: secretsctl put NAME < FILE, or "
    "secretsctl rotate NAME --value-file FILE",
    "version-not-found": "secretsctl info NAME shows the current version, and the newest in grace",
    "foreign-request": "use 127.0.0.1 or the Unix socket in --url, or add the host to server.allowed_hosts",
}
_OF_CONNECTION: Final = ("url", "client", "token_file", "ca_file", "cert_file", "key_file")
_UNREACHABLE_HINT: Final = (
    "is the daemon running (systemctl status jarvis-secretsd)? --url or JARVIS_SECRETS_URL says where it is"
)


def secret_path(name: str) -> str:
    """Return the path of a secret's calls."""
    return f"/secret/{quote(name, safe='')}"


def near(name: str, known: Iterable[str]) -> str | None:
    """Return the hint that `name` may be a slip for one of `known`, None where nothing comes near."""
    found = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(found)}?" if found else None


def decoded(answer: Response, kind: type[T]) -> T:
    """Return the body of an answer as `kind`. Raises Unreachable when something else than the daemon answered."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    raise Unreachable("the answer isn't one of jarvis-secretsd", hint=_UNREACHABLE_HINT)


class Session:
    """One command's calls. A context manager; not for several threads."""

    def __init__(self, transport: HttpTransport, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._transport = transport
        self._pause = pause
        self._runner = asyncio.Runner()

    @classmethod
    def open(cls, settings: Settings, *, timeout_secs: float = ANSWER_SECS) -> Self:
        """Return a session as the options and the environment say. Raises UsageError when they make no sense."""
        token_file = settings.token_file
        for option in ("token_file", "ca_file", "cert_file", "key_file"):
            path = getattr(settings, option)
            if path is not None and not path.exists():
                raise click.UsageError(f"--{option.replace('_', '-')}, or the variable for it: {path} doesn't exist")
        try:
            transport = HttpTransport(
                settings.url or default_url(),
                client_id=settings.client,
                token=None if token_file else os.environ.get("JARVIS_CLIENT_TOKEN") or None,
                token_file=token_file,
                ca_file=settings.ca_file,
                cert_file=settings.cert_file,
                key_file=settings.key_file,
                timeout_secs=timeout_secs,
            )
        except SecretsError as error:
            raise click.UsageError(str(error)) from None
        return cls(transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._transport.close())
        self._runner.close()

    @property
    def url(self) -> str:
        """Where the daemon is asked."""
        return self._transport.url

    def get(self, path: str) -> Response:
        """Return the answer, which is a success. Raises Failed for a refusal, Unreachable."""
        return self.run(self.fetch(path))

    async def fetch(self, path: str) -> Response:
        """Do what `get` does, for who runs on the session's event loop already."""
        return _success(await self._ask("GET", path))

    def health(self) -> Response:
        """Return the answer of /healthz, whatever its status. Raises Unreachable."""
        return self.run(self._ask("GET", "/healthz"))

    def position(self) -> str:
        """Return EPOCH:GENERATION, "" where the client isn't proven; a proven one leaves no line in the audit log."""
        return self.run(self._ask("GET", "/bus")).headers.get("Vault-Generation", "")

    def change(
        self, method: str, path: str, body: object | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Make a change, once: what became of it is asked again under the same Idempotency-Key when it isn't known.

        Raises Failed for a refusal, Unreachable.
        """
        keyed = {**(headers or {}), "Idempotency-Key": secrets.token_urlsafe(24)}
        return _success(self.run(self._change(method, path, body, keyed)))

    def secrets(self) -> list[Metadata]:
        """Return the metadata of what the caller may read, by name. Raises Failed, Unreachable."""
        return sorted(decoded(self.get("/secrets"), SecretList).secrets, key=lambda one: one.name)

    @contextmanager
    def suggesting(self, *names: str) -> Iterator[None]:
        """Add to a refusal what `names` may have been meant to be: of the names that the caller may list only."""
        try:
            yield
        except Failed as failed:
            if failed.slug in {"not-found", "forbidden"}:
                failed.hint = self._near(names) or failed.hint
            raise

    def _near(self, names: Iterable[str]) -> str | None:
        try:
            known = [one.name for one in self.secrets()]
        except Failed:
            return None
        unknown = [name for name in names if name not in known]
        return next((hint for name in unknown if (hint := near(name, known)) is not None), None)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the session's event loop."""
        return self._runner.run(work)

    async def _change(self, method: str, path: str, body: object | None, headers: Mapping[str, str]) -> Response:
        try:
            answer = await self._ask(method, path, body, headers)
            if _slug(answer) != "outcome-unknown":
                return answer
            wait = min(_seconds(answer.headers.get("Retry-After")), RETRY_MOST_SECS)
        except Unreachable:
            wait = 0.0  # the connection may have been an old one, or have broken after the daemon had the request
        await self._pause(wait)
        return await self._ask(method, path, body, headers)

    async def _ask(
        self, method: str, path: str, body: object | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        try:
            return await self._transport.request(method, path, body=body, headers=headers)
        except SecretsUnavailable as error:
            failed: Failed = Unreachable(str(error), hint=_UNREACHABLE_HINT)
        except SecretsError as error:
            failed = Failed(str(error))
        raise failed


def _success(answer: Response) -> Response:
    if 200 <= answer.status < 300:
        return answer
    try:
        problem = answer.json()
        slug, detail = problem["type"], problem["detail"]
    except (SecretsUnavailable, KeyError, TypeError):
        slug = detail = None
    if not isinstance(slug, str) or not isinstance(detail, str):
        raise Unreachable(f"the answer (status {answer.status}) isn't one of jarvis-secretsd", hint=_UNREACHABLE_HINT)
    raise Failed(detail, hint=_HINTS.get(slug), slug=slug)


def _slug(answer: Response) -> str:
    try:
        _success(answer)
    except Failed as failed:
        return failed.slug
    return ""


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdecimal() and len(text) < 6 else 1.0


def names_for_completion(ctx: click.Context) -> list[str]:
    """Return the names that the caller may list, none when that can't be had at once."""
    found = ctx.find_root()
    settings = found.obj if isinstance(found.obj, Settings) else _settings_of(found.params)
    try:
        with Session.open(settings, timeout_secs=COMPLETION_SECS) as session:
            return [one.name for one in session.secrets()]
    except click.ClickException:
        return []


def _settings_of(params: Mapping[str, Any]) -> Settings:
    """Return the global options where the group's callback, which notes them, doesn't run: in completion."""
    given: dict[str, Any] = {name: params.get(name) for name in _OF_CONNECTION}
    return Settings(**given)
