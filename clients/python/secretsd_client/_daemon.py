"""The daemon's calls that this client makes, typed: statuses become values or errors of ours."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from secretsd_client._errors import (
    AccessDenied,
    AuthenticationFailed,
    SecretNotFound,
    SecretsError,
    SecretsUnavailable,
)
from secretsd_client._http import HttpTransport, Response
from secretsd_client._model import BusInfo, Changes, Fetched, JwkSet, SecretBody, decode, parse_generation


class Behind(Exception):
    """The daemon hasn't reached the generation that was asked for, or hasn't got the name yet: ask again."""


class HistoryGone(Exception):
    """The daemon can't tell what changed since then: start over."""


class NoSecret(Exception):
    """There is no secret of that name, as of this epoch and generation."""

    def __init__(self, epoch: str, generation: int) -> None:
        super().__init__(epoch, generation)
        self.epoch = epoch
        self.generation = generation


class Daemon:
    """The calls. Each raises SecretsUnavailable, AuthenticationFailed or AccessDenied besides its own."""

    def __init__(self, http: HttpTransport) -> None:
        self._http = http
        self.date_ms: float | None = None
        """The latest that the daemon's clock can have been at its last answer, epoch milliseconds."""

    async def secret(self, name: str, *, etag: str | None, min_generation: int) -> Fetched:
        """`GET /secret/{name}`: a value, or none when `etag` is still current. Raises Behind and NoSecret."""
        headers = {} if etag is None else {"If-None-Match": f'"{etag}"'}
        query = f"?min_generation={min_generation}" if min_generation else ""
        answer = await self._get(f"/secret/{quote(name, safe='')}{query}", headers)
        if answer.status == 304:
            return Fetched(None, *parse_generation(answer.headers.get("Vault-Generation")))
        if answer.status == 200:
            generation = parse_generation(answer.headers.get("Vault-Generation"))
            return Fetched(decode(answer.body, SecretBody).secret(), *generation)
        if answer.status == 409:
            raise Behind
        if answer.status == 404:
            raise NoSecret(*parse_generation(answer.headers.get("Vault-Generation")))
        raise _failure(answer, f"reading {name}")

    async def changes(self, since: str | None) -> Changes:
        """`GET /changes`: since then, or everything. Raises HistoryGone."""
        query = "" if since is None else f"?since={quote(since, safe=':')}"
        answer = await self._get("/changes" + query)
        if answer.status == 200:
            return decode(answer.body, Changes)
        if answer.status == 410:
            raise HistoryGone
        raise _failure(answer, "asking what changed")

    async def acknowledge(self, name: str, kid: str) -> None:
        """`POST /secret/{name}/ack`: this client uses the version `kid`. Raises SecretNotFound where that is gone."""
        answer = await self._http.request("POST", f"/secret/{quote(name, safe='')}/ack", body={"kid": kid})
        if answer.status != 200:
            raise _failure(answer, f"acknowledging {name}")

    async def bus(self) -> BusInfo | None:
        """`GET /bus`: where the broker is; None when the daemon uses none."""
        answer = await self._get("/bus")
        if answer.status == 404:
            return None
        if answer.status == 200:
            return decode(answer.body, BusInfo)
        raise _failure(answer, "asking for the bus")

    async def keys(self) -> JwkSet:
        """`GET /keys`: the keys that events are signed with, past ones too."""
        answer = await self._get("/keys")
        if answer.status == 200:
            return decode(answer.body, JwkSet)
        raise _failure(answer, "asking for the signing keys")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _get(self, path: str, headers: Mapping[str, str] | None = None) -> Response:
        answer = await self._http.request("GET", path, headers=headers)
        try:
            date = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
            self.date_ms = date * 1000 + 999  # Date leaves out what is less than a second
        except (ValueError, OverflowError):
            self.date_ms = None
        return answer


def _failure(answer: Response, doing: str) -> SecretsError:
    """Return the error for a status that isn't an answer. It quotes the problem's slug only."""
    slug = problem_slug(answer)
    said = f"{doing}: the daemon answered {answer.status}" + (f" ({slug})" if slug else "")
    match answer.status:
        case 401:
            return AuthenticationFailed(f"{said}; check JARVIS_CLIENT_ID and the token against the policy")
        case 403:
            return AccessDenied(f"{said}; the policy doesn't allow it")
        case 400 | 404 | 405 | 422:
            return SecretNotFound(said)
        case _:
            return SecretsUnavailable(said)


def problem_slug(answer: Response) -> str:
    """Return the slug of a problem document, "" when there is none that looks like one."""
    try:
        slug = answer.json()["type"]
    except (SecretsError, KeyError, TypeError):
        return ""
    return slug if isinstance(slug, str) and len(slug) <= 40 and slug.replace("-", "").isalpha() else ""
