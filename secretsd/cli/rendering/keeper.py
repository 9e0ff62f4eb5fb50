"""The loop of `template`: render, and at each change fetch first, wait until it is quiet, then render anew."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from secretsd_client import Secret

from secretsd.cli.errors import Failed
from secretsd.cli.rendering.bringing import Piece, Round, bring_up_to_date
from secretsd.cli.rendering.jobs import Job, Orders
from secretsd.cli.rendering.sources import Sources
from secretsd.cli.rendering.target import Note
from secretsd.cli.rendering.template import Template
from secretsd.cli.terminal import note

REFUSED: Final = 1
INTERRUPTED: Final = 130

LONGEST: Final = 10
"""Changes that don't end are taken up after so many times the quiet that is waited for."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Keeper:
    """Keeps files as their templates and secrets say. A context manager, for nobody else may do so meanwhile."""

    def __init__(self, sources: Sources, jobs: Sequence[Job], settle_secs: float) -> None:
        self._sources = sources
        self._jobs = jobs
        self._settle_secs = settle_secs
        self._templates: list[Template] = [job.read() for job in jobs]
        self._noted: list[Note] = []
        self._news = asyncio.Event()
        self._status: int | None = None
        self._secrets: dict[str, Secret] = {}
        """What the files of the latest round are made of."""
        self._pause = _FIRST_PAUSE
        self._retry: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        try:
            self._noted = [job.target.open() for job in self._jobs]
        except Failed:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for job in self._jobs:
            job.target.close()

    async def once(self) -> int:
        """Bring all files up to date and return the exit status. Raises Failed for a secret that can't be had."""
        done = await self._bring(await self._pieces())
        return REFUSED if done.refused or done.not_reloaded else 0

    async def keep(self) -> int:
        """Keep the files up to date until a signal ends it; return the exit status.

        Raises Failed before anything is written where a template or a secret can't be had at the start.
        """
        self._sources.watch(self._news.set)
        with self._heeding_signals():
            self._after(again=(await self._bring(await self._pieces())).not_reloaded)
            files, secrets = len(self._jobs), len(self._sources.watched)
            note(f"keeping {files} file{'s' * (files > 1)} up to date, of {secrets} secret{'s' * (secrets != 1)}")
            while await self._change():
                await self._act()
        return self._status or 0

    async def _change(self) -> bool:
        """Wait for a change, and then until nothing has changed for a while; return False when it is to end."""
        await self._news.wait()
        loop = asyncio.get_running_loop()
        latest = loop.time() + LONGEST * self._settle_secs
        while self._status is None and self._news.is_set() and loop.time() < latest:
            self._news.clear()
            try:
                async with asyncio.timeout(min(self._settle_secs, latest - loop.time())):
                    await self._news.wait()
            except TimeoutError:
                break
        self._news.clear()
        return self._status is None

    async def _act(self) -> None:
        """Bring the files up to date; where what they need can't be had, they stay as they are."""
        try:
            again = (await self._bring(await self._pieces())).not_reloaded
        except Failed as failed:
            note(f"the change can't be taken up ({failed.message}); the files stay as they are")
            again = not failed.slug  # what the daemon or the template refuses, another change has to mend
        self._after(again=again)

    def _after(self, *, again: bool) -> None:
        """Do it again after a while, longer each time; the next change does it anyway."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if not again:
            self._pause = _FIRST_PAUSE
            return
        self._retry = asyncio.get_running_loop().call_later(self._pause, self._news.set)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    async def _pieces(self) -> list[Piece]:
        """Return what all files are to become: one value of each secret for all of them. Raises Failed."""
        secrets: dict[str, Secret] = {}
        self._secrets = secrets
        return [
            Piece.of(job, template.source, await self._sources.render(template, secrets), secrets, noted)
            for job, template, noted in zip(self._jobs, self._templates, self._noted, strict=True)
        ]

    async def _bring(self, pieces: Sequence[Piece]) -> Round:
        groups: dict[Orders, list[Piece]] = {}
        for piece in pieces:
            groups.setdefault(piece.job.orders, []).append(piece)
        try:
            done = await bring_up_to_date(groups.values())
        finally:
            self._noted = [piece.note for piece in pieces]
        if not done.refused and not done.not_reloaded:
            self._sources.in_force(self._secrets.values())
        return done

    @contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end it when a round is done; SIGHUP reads the templates anew."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, 0)
        loop.add_signal_handler(signal.SIGINT, self._end, INTERRUPTED)
        loop.add_signal_handler(signal.SIGHUP, self._read_anew)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _end(self, status: int) -> None:
        self._status = status
        self._news.set()

    def _read_anew(self) -> None:
        try:
            self._templates = [job.read() for job in self._jobs]
        except Failed as failed:
            note(f"{failed.message}; the templates stay as they were")
            return
        self._news.set()
