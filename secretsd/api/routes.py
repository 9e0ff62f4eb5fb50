"""The one table of calls: the router and the OpenAPI document are made from it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from secretsd.api import describe, handlers, params, queries
from secretsd.api.answers import Answer
from secretsd.api.contract import Service
from secretsd.api.incoming import Incoming
from secretsd.api.routing import MIB, ClientRoute, OpenRoute
from secretsd.model import (
    AcknowledgedVersion,
    AcknowledgeRequest,
    BusInfo,
    Changes,
    Consumers,
    CreateSecret,
    CreateSecrets,
    Frozen,
    Health,
    KeyRotated,
    Metadata,
    PutSecret,
    RestoreRequest,
    Rotated,
    RotateKeyRequest,
    RotateRequest,
    Schedule,
    SecretAnswer,
    SecretList,
)


class JwkSet(Frozen, frozen=True):
    """A JWK set, RFC 7517."""

    keys: list[dict[str, Any]]


@cache
def document() -> bytes:
    """Return the OpenAPI document, as `GET /openapi.json` gives it and docs/openapi.json holds it."""
    return describe.build(ROUTES)


def openapi_document(_service: Service, incoming: Incoming) -> Answer:
    """GET /openapi.json."""
    queries.parameters(incoming)
    return Answer(200, document())


_CLIENT_PROBLEMS: Final = ("missing-client", "unknown-client", "bad-credential", "too-many-requests")
_READ_PROBLEMS: Final = (*_CLIENT_PROBLEMS, "vault-unavailable")
_CHANGE_PROBLEMS: Final = (
    *_READ_PROBLEMS,
    "forbidden",
    "outcome-unknown",
)
_BODY_PROBLEMS: Final = ("too-large", "unsupported-media-type")

ROUTES: Final[tuple[OpenRoute | ClientRoute, ...]] = (
    OpenRoute(
        method="GET",
        path="/healthz",
        action="health",
        summary="Tell whether the daemon can serve: 200, else 503 with the same members",
        answer=Health,
        handler=handlers.health,
    ),
    OpenRoute(
        method="GET",
        path="/metrics",
        action="metrics",
        summary="Metrics for Prometheus; no secret's or client's name is in them",
        answer="text/plain",
        handler=handlers.metrics,
    ),
    OpenRoute(
        method="GET",
        path="/openapi.json",
        action="openapi",
        summary="This document",
        answer=dict[str, Any],
        handler=openapi_document,
    ),
    OpenRoute(
        method="GET",
        path="/keys",
        action="keys",
        summary="The public keys that sign events (OKP, Ed25519), past ones with their last sequence",
        answer=JwkSet,
        handler=handlers.event_keys,
    ),
    OpenRoute(
        method="GET",
        path="/.well-known/jwks.json",
        action="jwks",
        summary="The public halves of the secrets whose rule says `jwks: true`, current and in grace",
        answer=JwkSet,
        parameters=(params.IF_NONE_MATCH_SET,),
        problems=("vault-unavailable",),
        handler=handlers.jwks,
    ),
    ClientRoute(
        method="GET",
        path="/bus",
        action="bus",
        summary="Where the broker is, without credentials; 404 when the bus is disabled",
        needs="any client",
        answer=BusInfo,
        problems=(*_CLIENT_PROBLEMS, "not-found"),
        handler=handlers.bus,
    ),
    ClientRoute(
        method="GET",
        path="/secrets",
        action="list",
        summary="Metadata of the secrets that the caller may read",
        needs="any client",
        answer=SecretList,
        problems=_READ_PROBLEMS,
        handler=handlers.list_secrets,
    ),
    ClientRoute(
        method="GET",
        path="/changes",
        action="changes",
        summary="What changed since a position, of what the caller may read, deleted ones too",
        needs="any client",
        answer=Changes,
        parameters=(params.SINCE_POSITION,),
        problems=(*_READ_PROBLEMS, "history-gone"),
        handler=handlers.changes,
    ),
    ClientRoute(
        method="GET",
        path="/schedule",
        action="schedule",
        summary="What the schedule will do with the secrets that the caller may read",
        needs="any client",
        answer=Schedule,
        parameters=(
            params.DAYS,
            params.PATTERN,
        ),
        problems=_READ_PROBLEMS,
        handler=handlers.schedule,
    ),
    ClientRoute(
        method="GET",
        path="/secret/{name}",
        action="read",
        summary="A secret with its value: the current version, or one in grace",
        needs="read",
        answer=SecretAnswer,
        parameters=(
            params.NAME,
            params.VERSION,
            params.KID,
            params.MIN_GENERATION,
            params.IF_NONE_MATCH,
            params.INSTANCE,
        ),
        problems=(*_READ_PROBLEMS, "forbidden", "not-found", "version-not-found", "behind"),
        handler=handlers.read,
    ),
    ClientRoute(
        method="GET",
        path="/secret/{name}/consumers",
        action="consumers",
        summary="Who has the current version, who an earlier one, who may read the secret and never did",
        needs="rotate, or audit",
        answer=Consumers,
        parameters=(params.NAME,),
        problems=(*_READ_PROBLEMS, "forbidden", "not-found"),
        handler=handlers.consumers,
    ),
    ClientRoute(
        method="POST",
        path="/secret/{name}/ack",
        action="acknowledge",
        summary="Say that a version, current or in grace, is in use; said again it changes nothing",
        needs="read",
        answer=AcknowledgedVersion,
        body=AcknowledgeRequest,
        parameters=(params.NAME, params.INSTANCE),
        problems=(*_READ_PROBLEMS, *_BODY_PROBLEMS, "forbidden", "not-found", "version-not-found"),
        handler=handlers.acknowledge,
    ),
    ClientRoute(
        method="POST",
        path="/secret",
        action="create",
        summary="Make a secret; without a value one is generated by type",
        needs="write",
        answer=Metadata,
        status=201,
        body=CreateSecret,
        parameters=(params.IDEMPOTENCY_KEY,),
        problems=(*_CHANGE_PROBLEMS, *_BODY_PROBLEMS, "exists", "not-found", "version-not-found", "value-required"),
        handler=handlers.create,
    ),
    ClientRoute(
        method="POST",
        path="/secrets",
        action="create_all",
        summary="Make secrets, and new versions of those with `replaces`, all or none, in one commit",
        needs="write",
        answer=SecretList,
        status=201,
        body=CreateSecrets,
        max_body=8 * MIB,
        parameters=(params.IDEMPOTENCY_KEY,),
        problems=(
            *_CHANGE_PROBLEMS,
            *_BODY_PROBLEMS,
            "exists",
            "not-found",
            "version-not-found",
            "precondition-failed",
            "value-required",
            "rotation-pending",
        ),
        handler=handlers.create_all,
    ),
    ClientRoute(
        method="PUT",
        path="/secret/{name}",
        action="update",
        summary="Make a new version of a given value; the old one stays readable for its grace",
        needs="write",
        later=True,
        answer=Metadata,
        body=PutSecret,
        parameters=(
            params.NAME,
            params.IF_MATCH,
            params.IDEMPOTENCY_KEY,
        ),
        problems=(
            *_CHANGE_PROBLEMS,
            *_BODY_PROBLEMS,
            "not-found",
            "version-not-found",
            "precondition-failed",
            "rotation-pending",
        ),
        handler=handlers.update,
    ),
    ClientRoute(
        method="POST",
        path="/rotate",
        action="rotate",
        summary="Make new versions of the named secrets, all or none, in one commit",
        needs="rotate, with `values` also write",
        later=True,
        answer=Rotated,
        body=RotateRequest,
        max_body=8 * MIB,
        parameters=(params.IDEMPOTENCY_KEY,),
        problems=(
            *_CHANGE_PROBLEMS,
            *_BODY_PROBLEMS,
            "not-found",
            "version-not-found",
            "value-required",
            "rotation-pending",
        ),
        handler=handlers.rotate,
    ),
    ClientRoute(
        method="POST",
        path="/secret/{name}/restore",
        action="restore",
        summary="Make the value of a version in grace a new version: undo",
        needs="rotate",
        later=True,
        answer=Metadata,
        body=RestoreRequest,
        parameters=(params.NAME, params.IDEMPOTENCY_KEY),
        problems=(*_CHANGE_PROBLEMS, *_BODY_PROBLEMS, "not-found", "version-not-found", "rotation-pending"),
        handler=handlers.restore,
    ),
    ClientRoute(
        method="DELETE",
        path="/secret/{name}/rotation",
        action="cancel",
        summary="Give up a rotation that is under way: the other end takes the old value again",
        needs="rotate",
        answer=Metadata,
        later=True,
        parameters=(params.NAME, params.IDEMPOTENCY_KEY),
        problems=(*_CHANGE_PROBLEMS, "not-found", "version-not-found"),
        handler=handlers.cancel,
    ),
    ClientRoute(
        method="DELETE",
        path="/secret/{name}",
        action="delete",
        summary="Delete a secret; its name leaves a tombstone and its versions go on if it is made again",
        needs="delete",
        answer=None,
        status=204,
        parameters=(params.NAME, params.IDEMPOTENCY_KEY),
        problems=(*_CHANGE_PROBLEMS, "not-found"),
        handler=handlers.delete,
    ),
    ClientRoute(
        method="POST",
        path="/keys/rotate",
        action="rotate-key",
        summary="Make a new data, signing or master key of the daemon's own, or another passphrase, while it serves",
        needs="admin",
        answer=KeyRotated,
        body=RotateKeyRequest,
        parameters=(params.IDEMPOTENCY_KEY,),
        problems=(*_CHANGE_PROBLEMS, *_BODY_PROBLEMS, "passphrase-pending"),
        handler=handlers.rotate_key,
    ),
    ClientRoute(
        method="GET",
        path="/audit",
        action="audit",
        summary="The signed audit lines as they stand, rotated files included",
        needs="audit",
        answer=handlers.NDJSON,
        parameters=(
            params.AFTER,
            params.SINCE_TIME,
            params.LIMIT,
        ),
        problems=(*_READ_PROBLEMS, "forbidden", "history-gone"),
        handler=handlers.audit,
    ),
)
