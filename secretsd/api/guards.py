"""What every request must pass, in this order; each guard is small and says one thing.

The daemon listens where browsers and proxies of the same machine can reach it. So what looks as if it
came through one of them (DNS rebinding, a page's fetch, SSRF through a proxy) is turned away before
anything else is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from secretsd.api.contract import Service
from secretsd.api.incoming import INSTANCE_HEADER, Incoming, plain_address
from secretsd.api.problems import unreadable
from secretsd.auth import Caller
from secretsd.config import Config
from secretsd.errors import Problem
from secretsd.model import is_name

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,255}))(?::[0-9]{0,5})?\Z")
_JSON_TYPE: Final = re.compile(r'application/json[ \t]*(?:;[ \t]*charset="?utf-8"?[ \t]*)?\Z', re.IGNORECASE)

_ONCE: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"idempotency-key",
        b"if-match",
        b"sec-fetch-site",
        b"transfer-encoding",
        b"x-jarvis-client",
        b"x-jarvis-instance",
    }
)
_THROUGH_OTHERS: Final = {b"origin": "origin", b"referer": "referer", b"forwarded": "forwarded", b"via": "via"}


class ForeignRequest(Problem):
    """A request from a browser page or through a proxy; `reason` is for its audit line."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__("foreign-request", detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about who may send requests."""

    allowed_hosts: frozenset[str]
    deny_network_remote: bool

    @classmethod
    def of(cls, config: Config) -> Rules:
        """Return the rules in `config`."""
        return cls(
            allowed_hosts=frozenset(_plain_name(host)[0] for host in config.server.allowed_hosts),
            deny_network_remote=config.security.deny_network_remote,
        )


def target_is_a_path(incoming: Incoming, _rules: Rules) -> None:
    """Refuse targets that only a proxy is sent (`http://…`, `*`), and fragments."""
    target = incoming.raw.raw_path
    if not target.startswith("/") or not target.isascii() or "#" in target:
        raise unreadable("Ask for a path of this server, percent-encoded ASCII that begins with /.")


def headers_are_sane(incoming: Incoming, _rules: Rules) -> None:
    """Refuse a header that may come once and comes twice, values that aren't ASCII, and an instance that is no name."""
    names = incoming.header_names
    if len(set(names)) != len(names) and any(names.count(name) > 1 for name in _ONCE):
        raise unreadable("A header that may be given once is given twice.")
    if not "".join(incoming.headers.values()).isascii():
        raise unreadable("A header's value isn't ASCII.")
    if b"expect" in names and incoming.headers["Expect"].lower() != "100-continue":
        raise unreadable("The only expectation that is met is 100-continue.")
    if b"x-jarvis-instance" in names and not is_name(incoming.headers[INSTANCE_HEADER]):
        raise unreadable(
            f"{INSTANCE_HEADER} is up to 128 letters, digits, dots, underscores and hyphens, first a letter or digit."
        )


def came_directly(incoming: Incoming, _rules: Rules) -> None:
    """Refuse what a browser sent for a page, or a proxy for somebody."""
    for name in incoming.header_names:
        reason = _THROUGH_OTHERS.get(name)
        if reason is None and name.startswith(b"x-forwarded-"):
            reason = "x-forwarded"
        if reason is not None:
            raise ForeignRequest(
                f"{reason} header",
                "Ask directly: pages and proxies (Origin, Referer, Forwarded, Via) aren't served.",
            )
    site = incoming.headers.get("Sec-Fetch-Site")
    if site is not None and site.lower() not in {"none", "same-origin"}:
        raise ForeignRequest("sec-fetch-site header", "Ask directly: pages of other sites aren't served.")


def host_is_ours(incoming: Incoming, rules: Rules) -> None:
    """Refuse a Host that is neither loopback nor allowed; on the Unix socket it means nothing."""
    if incoming.peer.unix:
        return
    host = incoming.headers.get("Host")
    if not host:
        raise unreadable("Send a Host header.")
    name, loopback = _host_name(host)
    if not loopback and name not in rules.allowed_hosts:
        raise ForeignRequest(
            "host header", "Use localhost or a loopback address; other names go into server.allowed_hosts."
        )


def peer_is_near(incoming: Incoming, rules: Rules) -> None:
    """Refuse peers over the network unless the configuration lets them in."""
    if rules.deny_network_remote and not incoming.peer.loopback:
        raise ForeignRequest("network peer", "Ask from this machine; security.deny_network_remote is set.")


def route_exists(incoming: Incoming, _rules: Rules) -> None:
    """Refuse paths and methods that aren't in the table."""
    if incoming.found.route is not None:
        return
    if incoming.found.methods:
        allow = ", ".join(incoming.found.methods)
        raise Problem("method-not-allowed", f"This path takes {allow}.", headers={"Allow": allow})
    raise Problem("not-found", "There is no such path; GET /openapi.json lists them all.")


def conditions_are_kept(incoming: Incoming, _rules: Rules) -> None:
    """Refuse a change on a condition that the call doesn't look at: it would be made whether that holds or not."""
    route = incoming.found.route
    if route is None or route.method == "GET":
        return
    names = incoming.header_names
    if b"if-none-match" in names or (b"if-match" in names and not route.takes_if_match):
        raise unreadable("This change looks at no such condition; only PUT /secret/{name} takes one, If-Match.")


def body_fits(incoming: Incoming, _rules: Rules) -> None:
    """Refuse a body where none belongs, and one that says it is too large (or turns out so, see `bodies`)."""
    route = incoming.found.route
    if route is None or not incoming.raw.body_exists:
        return
    if route.body is None:
        raise unreadable("This call takes no body.")
    if (incoming.raw.content_length or 0) > route.max_body:
        raise too_large(route.max_body)


def body_is_json(incoming: Incoming, _rules: Rules) -> None:
    """Refuse bodies that don't call themselves JSON in UTF-8."""
    route = incoming.found.route
    if route is None or route.body is None:
        return
    if not _JSON_TYPE.match(incoming.headers.get("Content-Type", "")):
        raise Problem("unsupported-media-type", "Send Content-Type: application/json (UTF-8).")
    if incoming.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("unsupported-media-type", "Send the body as it is, without Content-Encoding.")
    if incoming.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise Problem("unsupported-media-type", "Send the body as it is; chunked is the only transfer coding.")


GUARDS: Final[tuple[Callable[[Incoming, Rules], None], ...]] = (
    target_is_a_path,
    headers_are_sane,
    came_directly,
    host_is_ours,
    peer_is_near,
    route_exists,
    conditions_are_kept,
    body_fits,
    body_is_json,
)
"""All guards, in the order in which they are applied; who is asking (`identify`) comes after them."""


async def admit(incoming: Incoming, rules: Rules, service: Service) -> None:
    """Apply the guards; raises the Problem of the first that refuses. Foreign requests are audited."""
    try:
        for guard in GUARDS:
            guard(incoming, rules)
    except ForeignRequest as refusal:
        route = incoming.found.route
        action = "unknown" if route is None else route.action
        await service.refuse_foreign(incoming.claims(), action, refusal.reason)
        raise


async def identify(incoming: Incoming, service: Service) -> Caller:
    """Return who is asking: the last guard, for the routes that need a client."""
    route = incoming.found.route
    return await service.identify(
        incoming.claims(), "unknown" if route is None else route.action, incoming.name or None
    )


def too_large(limit: int) -> Problem:
    """Return the problem of a body over `limit` bytes."""
    return Problem("too-large", f"The body of this call is at most {limit // (1024 * 1024)} MiB.")


@lru_cache(maxsize=256)
def _host_name(host: str) -> tuple[str, bool]:
    """Return a Host header's name without port ('' when it isn't one), and whether it is loopback."""
    match = _HOST.match(host)
    if match is None:
        return "", False
    return _plain_name(match[1] or match[2])


def _plain_name(host: str) -> tuple[str, bool]:
    """Return a name or address as it is compared, in whichever of its spellings it came, and whether it is loopback."""
    name = host.lower().removesuffix(".")
    if name == "localhost":
        return name, True
    address, loopback = plain_address(name)
    return (name if address == "unknown" else address), loopback
