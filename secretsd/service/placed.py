"""Which part of a request a refusal is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from secretsd.errors import Problem


@contextmanager
def placed(part: str) -> Iterator[None]:
    """Let the detail of a Problem begin with `part`, as `secrets[3]`: a name could be a value in the wrong place."""
    try:
        yield
    except Problem as problem:
        raise Problem(
            problem.slug,
            f"{part}: {problem.detail}",
            status=problem.status,
            headers=problem.headers,
            position=problem.position,
        ) from problem
