"""One function a call: read what was sent, ask the service, say what it answered."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from msgspec import UnsetType
from prometheus_client.exposition import choose_encoder
from secretsd_bus import b64url_encode

from secretsd.api import bodies, queries
from secretsd.api.answers import Answer
from secretsd.api.contract import Service
from secretsd.api.incoming import Incoming
from secretsd.api.streamed import StreamedAnswer
from secretsd.auth import Caller
from secretsd.model import (
    AcknowledgeRequest,
    CreateSecret,
    CreateSecrets,
    Metadata,
    PutSecret,
    RestoreRequest,
    RotateKeyRequest,
    RotateRequest,
)

NDJSON = "application/x-ndjson"
ACCEPTED = 202
"""What was asked for is in the journal, and not through to the other end yet."""
_FORMAT_VERSION: Final = re.compile(r";\s*version=([^;]*)")
_FORMAT_VERSIONS: Final = frozenset({"0.0.1", "0.0.4", "1.0.0"})


def health(service: Service, incoming: Incoming) -> Answer:
    """GET /healthz: 200 while the daemon can serve, else 503."""
    queries.parameters(incoming)
    state = service.health()
    return Answer.of(state, status=200 if state.status == "ok" else 503)


def metrics(service: Service, incoming: Incoming) -> Answer:
    """GET /metrics, in the format that the scraper asks for."""
    encode, content_type = choose_encoder(_known_formats(incoming.headers.get("Accept", "")))
    return Answer(200, encode(service.metrics.registry), content_type=content_type)


def event_keys(service: Service, incoming: Incoming) -> Answer:
    """GET /keys."""
    queries.parameters(incoming)
    return Answer.of(service.event_keys())


def jwks(service: Service, incoming: Incoming) -> Answer:
    """GET /.well-known/jwks.json: for caches, unlike everything else."""
    queries.parameters(incoming)
    found = service.jwks()
    answer = Answer.of({"keys": found.keys}, cache_control=f"public, max-age={found.max_age_secs}")
    tag = b64url_encode(hashlib.sha256(answer.body).digest()[:16])
    answer.headers = {"ETag": f'"{tag}"'}
    condition = queries.NoneMatch.of(incoming)
    if condition is not None and tag in condition:
        return Answer(304, headers=answer.headers, cache_control=answer.cache_control)
    return answer


async def bus(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """GET /bus."""
    queries.parameters(incoming)
    answered = service.bus_info(caller)
    return Answer.of(answered.value, position=answered.position)


async def list_secrets(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """GET /secrets."""
    queries.parameters(incoming)
    answered = await service.list_secrets(caller)
    return Answer.of(answered.value, position=answered.position)


async def changes(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """GET /changes."""
    answered = await service.changes(caller, queries.position(queries.parameters(incoming)))
    return Answer.of(answered.value, position=answered.position)


async def schedule(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """GET /schedule."""
    found = queries.parameters(incoming)
    days = queries.number(found, "days", least=1, most=queries.MAX_DAYS)
    answered = await service.schedule(
        caller, days=days or queries.DEFAULT_DAYS, pattern=queries.pattern(found, "secret")
    )
    return Answer.of(answered.value, position=answered.position)


async def read(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """GET /secret/{name}."""
    found = queries.parameters(incoming)
    condition = queries.NoneMatch.of(incoming)
    answered = await service.read(
        caller,
        incoming.name,
        queries.selector(found),
        if_none_match=condition,
        min_generation=queries.number(found, "min_generation"),
        head=incoming.method == "HEAD",
    )
    result = answered.value
    headers = {"ETag": f'"{result.kid}"'}
    if result.body is None:
        return Answer(304, position=answered.position, headers=headers)
    return Answer.of(result.body, position=answered.position, headers=headers)


async def consumers(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """GET /secret/{name}/consumers."""
    queries.parameters(incoming)
    answered = await service.consumers(caller, incoming.name)
    return Answer.of(answered.value, position=answered.position)


async def acknowledge(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """POST /secret/{name}/ack."""
    queries.parameters(incoming)
    body = await bodies.read(incoming, AcknowledgeRequest)
    answered = await service.acknowledge(caller, incoming.name, body)
    return Answer.of(answered.value, position=answered.position)


async def create(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """POST /secret."""
    queries.parameters(incoming)
    key = queries.idempotency_key(incoming)
    body = await bodies.read(incoming, CreateSecret)
    answered = await service.create(caller, body, idempotency_key=key)
    made = answered.value
    return _metadata(made, answered.position, status=201, location=f"/secret/{made.name}")


async def create_all(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """POST /secrets."""
    queries.parameters(incoming)
    key = queries.idempotency_key(incoming)
    body = await bodies.read(incoming, CreateSecrets)
    answered = await service.create_all(caller, body, idempotency_key=key)
    return Answer.of(answered.value, status=201, position=answered.position)


async def update(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """PUT /secret/{name}."""
    queries.parameters(incoming)
    kid = queries.if_match(incoming)
    key = queries.idempotency_key(incoming)
    body = await bodies.read(incoming, PutSecret)
    answered = await service.update(caller, incoming.name, body, if_match=kid, idempotency_key=key)
    return _metadata(answered.value, answered.position)


async def rotate(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """POST /rotate."""
    queries.parameters(incoming)
    key = queries.idempotency_key(incoming)
    body = await bodies.read(incoming, RotateRequest)
    answered = await service.rotate(caller, body, idempotency_key=key)
    waits = any(_under_way(one) for one in answered.value.rotated)
    return Answer.of(answered.value, status=ACCEPTED if waits else 200, position=answered.position)


async def rotate_key(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """POST /keys/rotate."""
    queries.parameters(incoming)
    key = queries.idempotency_key(incoming)
    body = await bodies.read(incoming, RotateKeyRequest)
    answered = await service.rotate_key(caller, body, idempotency_key=key)
    return Answer.of(answered.value, position=answered.position)


async def restore(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """POST /secret/{name}/restore."""
    queries.parameters(incoming)
    key = queries.idempotency_key(incoming)
    body = await bodies.read(incoming, RestoreRequest)
    answered = await service.restore(caller, incoming.name, body, idempotency_key=key)
    return _metadata(answered.value, answered.position)


async def cancel(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """DELETE /secret/{name}/rotation."""
    queries.parameters(incoming)
    key = queries.idempotency_key(incoming)
    answered = await service.cancel(caller, incoming.name, idempotency_key=key)
    return _metadata(answered.value, answered.position)


async def delete(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """DELETE /secret/{name}."""
    queries.parameters(incoming)
    key = queries.idempotency_key(incoming)
    answered = await service.delete(caller, incoming.name, idempotency_key=key)
    return Answer(204, position=answered.position)


async def audit(service: Service, caller: Caller, incoming: Incoming) -> Answer:
    """GET /audit."""
    found = queries.parameters(incoming)
    limit = queries.number(found, "limit", least=1, most=queries.MAX_LINES)
    answered = await service.audit_lines(
        caller,
        after=queries.number(found, "after"),
        since_ms=queries.instant(found, "since"),
        limit=queries.DEFAULT_LINES if limit is None else limit,
    )
    return await StreamedAnswer.of_pieces(answered.value, content_type=NDJSON, position=answered.position)


def _known_formats(accept: str) -> str:
    """Return an Accept header without the formats of a version that there isn't.

    The library would repeat such a version in its answer, or fail on it.
    """
    return ",".join(
        one
        for one in accept.split(",")
        if all(version.strip() in _FORMAT_VERSIONS for version in _FORMAT_VERSION.findall(one))
    )


def _under_way(value: Metadata) -> bool:
    """Tell whether the other end hasn't taken the new value yet; tidying up after that is nobody's concern."""
    return not isinstance(value.pending, UnsetType) and value.pending.step != "finish"


def _metadata(value: Metadata, position: str, *, status: int = 200, location: str | None = None) -> Answer:
    if status == 200 and _under_way(value):
        status = ACCEPTED
    headers = {"ETag": f'"{value.kid}"'}
    if location is not None:
        headers["Location"] = location
    return Answer.of(value, status=status, position=position, headers=headers)
