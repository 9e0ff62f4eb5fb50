"""Writes the test vectors anew, byte for byte the same each time: `python -m tests.vectors.generate`.

All keys are made from fixed seeds, nonces are fixed and Ed25519 takes no randomness: so a changed file is a changed
format.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.vectors import backup_vectors, event_vectors, log_vectors, vault_vectors

FOLDER: Final = Path(__file__).resolve().parent

FAMILIES: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "events": event_vectors.build,
    "sealing": vault_vectors.build_values,
    "vault": vault_vectors.build_documents,
    "log": log_vectors.build,
    "backup": backup_vectors.build,
}
"""A folder of vectors, and what makes its files: name without `.json` to content."""


def rendered() -> dict[Path, str]:
    """Return every vector file with its text."""
    return {
        FOLDER / family / f"{name}.json": json.dumps(content, indent=2, ensure_ascii=True) + "\n"
        for family, build in FAMILIES.items()
        for name, content in build().items()
    }


def main() -> None:
    for path, text in rendered().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
