"""Writes what docs/ has of the interfaces from the code: openapi.json, asyncapi.json, schemas/, reference.md and man/.

`make reference` runs it; tests compare what it would write with what stands there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secretsd_bus import asyncapi

from secretsd.api.routes import document as openapi_document
from tools import manpages

DOCS = Path(__file__).parents[1] / "docs"

HEAD = """\
# Reference

Made by `make reference` from [openapi.json](openapi.json) and [asyncapi.json](asyncapi.json), which are made from the
code's own types. What the calls and events mean is said in [http.md](http.md) and [events.md](events.md).
"""


def reference(http: dict[str, Any], bus: dict[str, Any]) -> str:
    """Return reference.md for an OpenAPI and an AsyncAPI document."""
    parts = [HEAD, "## HTTP calls\n", *_calls(http), "## HTTP bodies\n", *_structs(http["components"]["schemas"])]
    parts += ["## Topics\n", *_topics(bus), "## Events\n", *_events(bus)]
    return "\n".join(parts).rstrip() + "\n"


def _calls(http: dict[str, Any]) -> Iterator[str]:
    for path, methods in http["paths"].items():
        for method, call in methods.items():
            yield f"### {method.upper()} {path}\n"
            yield f"{call['summary']}. {call['description']}\n"
            if "parameters" in call:
                rows = [
                    (f"`{one['name']}`", one["in"], _type(one["schema"]), one["description"])
                    for one in call["parameters"]
                ]
                yield _table(("parameter", "in", "type", "what it is"), rows)
            if "requestBody" in call:
                body = call["requestBody"]["content"]["application/json"]["schema"]
                yield f"Body: {_type(body)}. {call['requestBody']['description']}\n"
            rows = [(status, _content(answer), answer["description"]) for status, answer in call["responses"].items()]
            yield _table(("status", "body", "when"), rows)


def _content(answer: dict[str, Any]) -> str:
    (kind, content), *_ = answer.get("content", {"": {"schema": {}}}).items()
    if not kind:
        return "none"
    return _type(content["schema"]) if kind.endswith("json") else f"`{kind}`"


def _structs(schemas: dict[str, Any]) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        yield f"### {name}\n"
        yield f"{schema.get('description', '')}\n"
        yield _members(schema)


def _topics(bus: dict[str, Any]) -> Iterator[str]:
    rows = []
    for name, channel in bus["channels"].items():
        sent = bus["operations"].get(f"send-{name}")
        (message,) = channel["messages"]
        what = f"`{_name(bus, message)}`" + ("" if sent else ", which the daemon listens to")
        rows.append((f"`{channel['address']}`", "yes" if sent and sent["bindings"]["mqtt"]["retain"] else "no", what))
    yield _table(("topic (with the default prefix)", "retained", "what comes there"), rows)


def _events(bus: dict[str, Any]) -> Iterator[str]:
    """Yield each kind of `data` once, with the types that carry it."""
    kinds: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for message in bus["components"]["messages"].values():
        if "schema" not in message["payload"]:
            continue
        data = message["payload"]["schema"]["properties"]["data"]
        kinds.setdefault(data["title"], (data, []))[1].append(f"`{message['name']}`: {message['summary']}")
    for title, (data, types) in kinds.items():
        yield f"### {title} (data)\n"
        yield f"{data['description']}\n"
        yield "\n".join(f"- {line}" for line in types) + "\n"
        yield _members(data)


def _name(bus: dict[str, Any], message: str) -> str:
    name: str = bus["components"]["messages"][message]["name"]
    return name


def _members(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (f"`{name}`" + ("" if name in required else " (optional)"), _type(member), _text(member))
        for name, member in schema["properties"].items()
    ]
    return _table(("member", "type", "what it is"), rows)


def _text(schema: dict[str, Any]) -> str:
    # Of a struct that stands there its own heading tells.
    return "" if "properties" in schema else str(schema.get("description", ""))


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema or "enum" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{json.dumps(one)}`" for one in allowed)
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(one) for one in alternatives)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if kind == "object" and "properties" in schema:
        return "object of " + ", ".join(f"`{name}`" for name in schema["properties"])
    return str(kind) + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None and most < 2**53 - 1:
        return f" from {least} to {most}"
    if least is not None:
        return f" from {least}"
    longest = schema.get("maxLength")
    return "" if longest is None else f" of at most {longest} characters"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def main() -> None:
    """Write all of it."""
    (DOCS / "openapi.json").write_bytes(openapi_document())
    asyncapi.main(DOCS)
    (DOCS / "reference.md").write_text(reference(json.loads(openapi_document()), asyncapi.document()))
    manpages.main()


if __name__ == "__main__":
    main()
