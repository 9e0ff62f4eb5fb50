"""The JSON Schema of each type of event, made from the structs that the daemon fills: `docs/schemas/`.

They describe a message as it stands on the bus. What they can't say (canonical bytes, signature, chain, topic) is
said in docs/events.md and held by `Verifier`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from secretsd_bus.events import PREFIX
from secretsd_bus.payloads import KINDS, Payload

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = "#/$defs/{name}"

_BASE64URL_32: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"}
_TIME: Final = {"type": "string", "format": "date-time", "pattern": r"\.[0-9]{3}Z$"}


def event_schema(kind: str) -> dict[str, Any]:
    """Return the schema of a whole message of the type `kind` (without prefix). Raises KeyError for no such type."""
    described = KINDS[kind]
    data, definitions = data_schema(described.data, _REFERENCE)
    members: dict[str, Any] = {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "description": "Unique: drop a second one"},
        "source": {"type": "string", "pattern": "^/jarvis/secretsd/[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
        "type": {"const": PREFIX + kind},
        "subject": {"type": "string", "description": "The secret's name"},
        "time": _TIME,
        "datacontenttype": {"const": "application/json"},
        "keyid": {"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "Of the key that signed"},
        "data": data,
        "signature": {"type": "string", "pattern": "^[A-Za-z0-9_-]{86}$", "description": "base64url Ed25519"},
    }
    if described.chained:
        members["sequence"] = {"type": "string", "pattern": "^[0-9]{20}$", "description": "The line's number"}
        members["prev"] = {**_BASE64URL_32, "description": "SHA-256 of the line before"}
    schema: dict[str, Any] = {
        "$schema": DIALECT,
        "title": PREFIX + kind,
        "description": described.when,
        "type": "object",
        "properties": members,
        "required": [name for name in members if name != "subject"],
        "additionalProperties": False,
    }
    return {**schema, "$defs": definitions} if definitions else schema


def data_schema(payload: type[Payload], reference: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of one kind of `data`, and those that it refers to by `reference` (which holds `{name}`)."""
    (root,), components = msgspec.json.schema_components([payload], ref_template=reference)
    own = components.pop(root["$ref"].rpartition("/")[2])
    return own, components
