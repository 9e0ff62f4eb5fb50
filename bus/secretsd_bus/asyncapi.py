"""The interface on MQTT as an AsyncAPI 3.0 document: `docs/asyncapi.json`.

`python -m secretsd_bus.asyncapi DOCS` writes it and `DOCS/schemas/`; a test compares them with what stands there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from secretsd_bus.events import PREFIX
from secretsd_bus.payloads import KINDS
from secretsd_bus.schemas import event_schema
from secretsd_bus.topics import SECRET_VERBS, Topics

CONTENT_TYPE: Final = "application/cloudevents+json"
DEFAULT_PREFIX: Final = "jarvis/secretsd"

_DESCRIPTION: Final = """\
What jarvis-secretsd says on MQTT: signed CloudEvents, each one the exact bytes of its line in the audit log. Nobody
commands the daemon there. A message counts only once it is verified, on the topics that its own content names, and
it only hints: HTTP is the truth. docs/events.md has the rules of verification."""

_RETAINED: Final = frozenset({"secret-state", "checkpoint", "status", "keys", "discovery", "overview"})
_HEARD: Final = frozenset({"birth"})
"""Where the daemon listens to others; under its own prefix it looks for itself and for a second daemon."""
_KEY_SET: Final = {
    "name": "key-set",
    "title": "The JWK set of GET /keys",
    "summary": "Retained: the public keys, for people; it is unsigned and nobody trusts it.",
    "contentType": "application/jwk-set+json",
    "payload": {
        "type": "object",
        "properties": {"keys": {"type": "array", "items": {"type": "object"}}},
        "required": ["keys"],
    },
}
_DISCOVERY: Final = {
    "name": "discovery",
    "title": "Home Assistant's description of an entity",
    "summary": "Retained: an entity of the daemon or of a secret, in Home Assistant's own form; empty takes it away.",
    "contentType": "application/json",
    "payload": {"type": "object"},
}
_BIRTH: Final = {
    "name": "birth",
    "title": "Home Assistant has started",
    "summary": "Heard by the daemon: `online` makes it repeat what it has said to Home Assistant, and nothing else.",
    "contentType": "text/plain",
    "payload": {"type": "string"},
}
_OVERVIEW: Final = {
    "name": "overview",
    "title": "What Home Assistant's entities of the device show",
    "summary": "Retained: counts, next expiry and problems; it is unsigned and nobody trusts it.",
    "contentType": "application/json",
    "payload": {"type": "object"},
}
_COPY: Final = {
    "name": "copy",
    "title": "A copy of an event",
    "summary": "The exact bytes of an event that Home Assistant shows; it counts on the event's own topics only.",
    "contentType": CONTENT_TYPE,
    "payload": {"type": "object"},
}
_NAME: Final = {"description": "A secret's name"}
_DEVICE: Final = {"description": "The id of the daemon's device in Home Assistant, made from prefix and node"}
_COMPONENT: Final = {"description": "Home Assistant's kind of entity", "enum": ["binary_sensor", "sensor", "event"]}
_OBJECT: Final = {"description": "The entity's own part of its id"}
_NODE: Final = {"description": "The daemon's node, `[bus] node` in config.toml"}


def document() -> dict[str, Any]:
    """Return the AsyncAPI document."""
    channels = dict(_channels(Topics(DEFAULT_PREFIX)))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "jarvis-secretsd",
            "version": version("secretsd-bus"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "127.0.0.1:1883",
                "protocol": "mqtt",
                "protocolVersion": "5.0",
                "description": "The default `[bus] url`; mqtts:// for TLS",
            }
        },
        "channels": channels,
        "operations": dict(_operations(channels)),
        "components": {
            "messages": {_id(kind): _message(kind) for kind in KINDS}
            | {
                "key-set": _KEY_SET,
                "discovery": _DISCOVERY,
                "overview": _OVERVIEW,
                "copy": _COPY,
                "birth": _BIRTH,
            },
        },
    }


def _channels(topics: Topics) -> Iterator[tuple[str, dict[str, Any]]]:
    for verb in SECRET_VERBS:
        yield f"secret-{verb}", _channel(topics.secret_event("{name}", verb), f"secret.{verb}", name=_NAME)
    yield "secret-state", _channel(topics.secret_state("{name}"), "secret.state", name=_NAME)
    for kind, described in KINDS.items():
        if described.chained:
            yield f"audit-{_id(kind)}", _channel(topics.audit(*kind.split(".")), kind)
    yield "checkpoint", _channel(topics.checkpoint("{node}"), "audit.checkpoint", node=_NODE)
    yield "status", _channel(topics.status("{node}"), "daemon.status", node=_NODE)
    yield "keys", _channel(topics.keys("{node}"), "key-set", node=_NODE)
    config = "homeassistant/{component}/{device}/{object}/config"
    yield "discovery", _channel(config, "discovery", component=_COMPONENT, device=_DEVICE, object=_OBJECT)
    yield "overview", _channel("homeassistant/secretsd/{device}/overview", "overview", device=_DEVICE)
    yield "copies", _channel("homeassistant/secretsd/{device}/event", "copy", device=_DEVICE)
    yield "birth", _channel("homeassistant/status", "birth")


def _channel(address: str, message: str, **parameters: Any) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": address,
        "messages": {_id(message): {"$ref": f"#/components/messages/{_id(message)}"}},
    }
    return {**channel, "parameters": parameters} if parameters else channel


def _operations(channels: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for name in channels:
        action = "receive" if name in _HEARD else "send"
        yield (
            f"{action}-{name}",
            {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "bindings": {"mqtt": {"qos": 1, "retain": name in _RETAINED}},
            },
        )


def _message(kind: str) -> dict[str, Any]:
    schema = event_schema(kind)
    # Referred to from inside the document, a schema's own definitions stand with it.
    return {
        "name": PREFIX + kind,
        "title": PREFIX + kind,
        "summary": KINDS[kind].when,
        "contentType": CONTENT_TYPE,
        "payload": {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": _inlined(schema)},
    }


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its definitions put where they are referred to: `#` means the whole document here."""
    definitions = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                return inline(definitions[part["$ref"].rpartition("/")[2]])
            return {key: inline(member) for key, member in part.items()}
        return [inline(member) for member in part] if isinstance(part, list) else part

    whole: dict[str, Any] = inline(schema)
    return whole


def _id(kind: str) -> str:
    return kind.replace(".", "-")


def written(value: dict[str, Any]) -> str:
    """Return a document as it stands in docs/."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main(folder: Path) -> None:
    """Write asyncapi.json and schemas/ into `folder`."""
    (folder / "asyncapi.json").write_text(written(document()))
    schemas = folder / "schemas"
    schemas.mkdir(exist_ok=True)
    for kind in KINDS:
        (schemas / f"{kind}.json").write_text(written(event_schema(kind)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
