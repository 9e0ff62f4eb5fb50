"""The shell blocks of a document, by the name in the comment before each: `<!-- recipe: NAME -->`."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^<!-- recipe: (?P<name>[a-z-]+) -->\n```sh\n(?P<script>.*?)^```$", re.DOTALL | re.MULTILINE)


def recipe(name: str, document: str = "events.md") -> str:
    """Return the script of one block, to be run by `sh` in a folder that holds what the document says."""
    blocks = {match["name"]: match["script"] for match in _BLOCK.finditer((DOCUMENTS / document).read_text())}
    return blocks[name]
