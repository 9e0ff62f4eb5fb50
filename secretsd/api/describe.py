"""The OpenAPI 3.1 document, made from the routes table and the structs of the wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from secretsd.api.problems import PROBLEM_JSON
from secretsd.api.routing import MIB, ClientRoute, OpenRoute, Parameter, Route
from secretsd.errors import PROBLEM_STATUS
from secretsd.model import ProblemDetails

_TEMPLATE: Final = "#/components/schemas/{name}"
_EVERY_CALL: Final = (
    ("invalid-request", 400),
    ("foreign-request", PROBLEM_STATUS["foreign-request"]),
    ("internal-error", PROBLEM_STATUS["internal-error"]),
    # A refusal has its line, too.
    ("audit-unavailable", PROBLEM_STATUS["audit-unavailable"]),
)
_UNPROVEN: Final = frozenset({401, 429})
_LATER: Final = frozenset({"behind", "passphrase-pending"})
"""What comes with Retry-After besides 429 and 503."""
_DESCRIPTION: Final = """\
Errors are RFC 9457 problems: `type` is a slug, `detail` says what to do, and nothing of a request is ever
repeated. Requests that come from browser pages or through proxies are refused. Every answer carries
X-Request-Id and Cache-Control, and Vault-Generation where a client was proven."""


def build(routes: Sequence[OpenRoute | ClientRoute]) -> bytes:
    """Return the document for `routes` as indented JSON with a final newline."""
    bodies = [route.body for route in routes if route.body is not None]
    answers = [route.answer for route in routes if _is_json(route)]
    schemas, components = msgspec.json.schema_components([*bodies, *answers, ProblemDetails], ref_template=_TEMPLATE)
    body_schemas = dict(zip(bodies, schemas, strict=False))
    answer_schemas = iter(schemas[len(bodies) : len(bodies) + len(answers)])
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        answer = next(answer_schemas) if _is_json(route) else None
        body = None if route.body is None else body_schemas[route.body]
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, body, answer)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "jarvis-secretsd",
            "version": version("jarvis-secretsd"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8081", "description": "The default bind_addr"}],
        "paths": paths,
        "components": {"schemas": components, "headers": _HEADERS, "securitySchemes": _SCHEMES},
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


_HEADERS: Final = {
    "X-Request-Id": {
        "description": "The id under which the audit has the request",
        "schema": {"type": "string"},
    },
    "Vault-Generation": {
        "description": "EPOCH:GENERATION of the vault at the decision",
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "What If-None-Match takes, in double quotes; a secret's is the version's kid",
        "schema": {"type": "string"},
    },
    "Cache-Control": {
        "description": "How long the answer may be kept: `no-store` but for the published keys",
        "schema": {"type": "string"},
    },
    "Location": {"description": "The path of the secret that was made", "schema": {"type": "string"}},
    "Retry-After": {"description": "In how many seconds to ask again", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}},
}
_SCHEMES: Final = {
    "client": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Jarvis-Client",
        "description": "Names the client; the connection may be the proof: by uid, or by certificate",
    },
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Proves the client by a token of the policy",
    },
}


def _is_json(route: Route) -> bool:
    return route.answer is not None and not isinstance(route.answer, str)


def _operation(
    route: OpenRoute | ClientRoute, body: dict[str, Any] | None, answer: dict[str, Any] | None
) -> dict[str, Any]:
    needs = f"Needs: {route.needs}." if isinstance(route, ClientRoute) else "Needs no client."
    operation: dict[str, Any] = {
        "operationId": route.action,
        "summary": route.summary,
        "description": needs,
        "security": [{"client": []}, {"client": [], "token": []}, {"token": []}]
        if isinstance(route, ClientRoute)
        else [],
    }
    if route.parameters:
        operation["parameters"] = [_parameter(one) for one in route.parameters]
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "description": f"At most {route.max_body // MIB} MiB.",
            "content": {"application/json": {"schema": body}},
        }
    operation["responses"] = {str(route.status): _success(route, answer), **_problems(route)}
    if route.later:
        operation["responses"]["202"] = {
            **_success(route, answer),
            "description": "Accepted: the other end hasn't taken the new value yet, `pending` says how far it is",
        }
    if route.action == "read":
        operation["responses"]["304"] = {
            "description": "The caller has this version",
            "headers": _header_refs("X-Request-Id", "Cache-Control", "Vault-Generation", "ETag"),
        }
    if route.action == "jwks":
        operation["responses"]["304"] = {
            "description": "The set is the one that the caller has",
            "headers": _header_refs("X-Request-Id", "Cache-Control", "ETag"),
        }
    if route.action == "health":
        unaudited = operation["responses"]["503"]
        operation["responses"]["503"] = {
            **unaudited,
            "description": f"The daemon can't serve; a problem for who is refused: {unaudited['description']}",
            "content": {**_success(route, answer)["content"], **unaudited["content"]},
        }
    return operation


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": one.where,
        "required": one.where == "path",
        "description": one.description,
        "schema": one.schema,
    }


def _success(route: OpenRoute | ClientRoute, answer: dict[str, Any] | None) -> dict[str, Any]:
    names = ["X-Request-Id", "Cache-Control"]
    if isinstance(route, ClientRoute):
        names.append("Vault-Generation")
    if route.action in {"read", "create", "update", "restore", "cancel", "jwks"}:
        names.append("ETag")
    if route.action == "create":
        names.append("Location")
    success: dict[str, Any] = {"description": "Done", "headers": _header_refs(*names)}
    if answer is not None:
        success["content"] = {"application/json": {"schema": answer}}
    elif isinstance(route.answer, str):
        success["content"] = {route.answer: {"schema": {"type": "string"}}}
    return success


def _problems(route: Route) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for slug, status in [*_EVERY_CALL, *((slug, PROBLEM_STATUS[slug]) for slug in route.problems)]:
        by_status.setdefault(status, []).append(slug)
    if route.body is not None or any(one.name == "Idempotency-Key" for one in route.parameters):
        # The key of another request is refused so, with a body or without.
        by_status.setdefault(422, []).insert(0, "invalid-request")
    return {
        str(status): {
            "description": ", ".join(slugs),
            "headers": _header_refs(*_problem_headers(route, status, slugs)),
            "content": {PROBLEM_JSON: {"schema": {"$ref": _TEMPLATE.format(name=ProblemDetails.__name__)}}},
        }
        for status, slugs in sorted(by_status.items())
    }


def _problem_headers(route: Route, status: int, slugs: Sequence[str]) -> list[str]:
    names = ["X-Request-Id", "Cache-Control"]
    if isinstance(route, ClientRoute) and status not in _UNPROVEN:
        names.append("Vault-Generation")
    if status == PROBLEM_STATUS["missing-client"]:
        names.append("WWW-Authenticate")
    if status in {429, 503} or not _LATER.isdisjoint(slugs):
        names.append("Retry-After")
    return names


def _header_refs(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
