from __future__ import annotations

import json
from pathlib import Path

from secretsd_bus import asyncapi

from secretsd.api.routes import document
from tools.reference import reference

WRITTEN = Path(__file__).parents[2] / "docs" / "reference.md"


def test_the_written_reference_is_what_the_code_says() -> None:
    made = reference(json.loads(document()), asyncapi.document())
    assert made == WRITTEN.read_text(), "run `make reference`"


def test_every_call_and_every_type_is_in_it() -> None:
    text = WRITTEN.read_text()
    paths = json.loads(document())["paths"]
    assert all(f"### {method.upper()} {path}\n" in text for path, methods in paths.items() for method in methods)
    messages = asyncapi.document()["components"]["messages"]
    assert all(f"`{message['name']}`" in text for message in messages.values())
