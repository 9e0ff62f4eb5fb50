"""From a method and a path to a route: the shape of the routes table, and the look-up in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from msgspec import Struct

from secretsd.model import Request

if TYPE_CHECKING:
    from secretsd.api.answers import Answer
    from secretsd.api.contract import Service
    from secretsd.api.incoming import Incoming
    from secretsd.auth import Caller

MIB: Final = 1024 * 1024
_NAME: Final = "/{name}"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a call, for the OpenAPI document; those of the query are all that the call takes."""

    name: str
    where: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One call of the interface. `path` is the template: the name that metrics and logs know it by."""

    method: str
    path: str
    action: str
    summary: str
    answer: Any
    """The struct of the answer's body; None without one; a media type as a string where it isn't JSON."""
    status: int = 200
    later: bool = False
    """Whether 202 with the same members is answered where the other end hasn't taken the new value yet."""
    body: type[Request] | None = None
    max_body: int = MIB
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[str, ...] = ()
    query_names: frozenset[str] = field(init=False)
    takes_if_match: bool = field(init=False)

    def __post_init__(self) -> None:
        names = frozenset(one.name for one in self.parameters if one.where == "query")
        object.__setattr__(self, "query_names", names)
        object.__setattr__(self, "takes_if_match", any(one.name == "If-Match" for one in self.parameters))


@dataclass(frozen=True, kw_only=True)
class OpenRoute(Route):
    """A call that anyone on this machine may make."""

    handler: Callable[[Service, Incoming], Answer]


@dataclass(frozen=True, kw_only=True)
class ClientRoute(Route):
    """A call that a client makes; `needs` says what the policy must allow it."""

    needs: str
    handler: Callable[[Service, Caller, Incoming], Awaitable[Answer]]


class Found(Struct, frozen=True):
    """What a look-up came to: a route; or none, and the methods that the path has."""

    route: OpenRoute | ClientRoute | None
    name: str = ""
    methods: tuple[str, ...] = ()

    @property
    def template(self) -> str:
        """Return the route's template, `unknown` without one."""
        return "unknown" if self.route is None else self.route.path


NOTHING: Final = Found(None)


class Router:
    """Looks a path up: whole, or as `/x/{name}` or `/x/{name}/y`."""

    def __init__(self, routes: Iterable[OpenRoute | ClientRoute]) -> None:
        self._by_shape: dict[str, dict[str, OpenRoute | ClientRoute]] = {}
        for route in routes:
            methods = self._by_shape.setdefault(route.path, {})
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route

    def find(self, method: str, path: str) -> Found:
        """Return the route of a raw path (percent-encoded, without query). HEAD finds the GET."""
        methods = self._by_shape.get(path)
        name = ""
        if methods is None:
            parts = path.split("/", 3)
            if len(parts) < 3 or not parts[2]:
                return NOTHING
            rest = f"/{parts[3]}" if len(parts) == 4 else ""
            methods = self._by_shape.get(f"/{parts[1]}{_NAME}{rest}")
            if methods is None:
                return NOTHING
            name = parts[2]
            if "%" in name:
                # What isn't UTF-8 becomes U+FFFD, which no name has: unknown, like any other odd name.
                name = unquote(name, errors="replace")
        route = methods.get(method)
        if route is None:
            return Found(None, "", tuple(methods))
        return Found(route, name)

    def pairs(self) -> set[tuple[str, str]]:
        """Return every (method, template) that is answered."""
        return {(method, path) for path, methods in self._by_shape.items() for method in methods}
