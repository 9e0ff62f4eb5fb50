"""Waiting, on the loop, for what must happen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(probe: Callable[[], object], what: str, *, within: float = 30.0) -> None:
    """Return when `probe()` is truthy; fail with `what` after `within` seconds."""
    try:
        async with asyncio.timeout(within):
            while not probe():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {within:g} s: {what}") from None


async def until_async(probe: Callable[[], Awaitable[object]], what: str, *, within: float = 30.0) -> None:
    """Return when `await probe()` is truthy; fail with `what` after `within` seconds."""
    try:
        async with asyncio.timeout(within):
            while not await probe():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {within:g} s: {what}") from None
