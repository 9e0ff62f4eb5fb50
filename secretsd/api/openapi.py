"""Prints the OpenAPI document: `python -m secretsd.api.openapi > docs/openapi.json` (a test compares the two)."""

from __future__ import annotations

import sys

from secretsd.api.routes import document

if __name__ == "__main__":
    sys.stdout.buffer.write(document())
