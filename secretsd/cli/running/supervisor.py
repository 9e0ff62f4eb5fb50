"""The loop of `run`: fetch, start, and at each change fetch first, then signal or start anew."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from secretsd_client import (
    AccessDenied,
    AsyncSecretsClient,
    Secret,
    SecretNotFound,
    SecretsError,
    SecretsUnavailable,
)

from secretsd.cli.errors import Failed, Unreachable
from secretsd.cli.running.child import Child, is_doubled, wanted_signals
from secretsd.cli.running.choice import BadChoice, Plan, environment
from secretsd.cli.running.folder import Delivered, Difference, Folder, differences
from secretsd.cli.terminal import note

GATHER_SECS: Final = 0.1
"""How long is waited for further changes of the same commit: each secret has an event of its own."""

AT_ONCE_SECS: Final = 10.0
"""A child that ends by itself within this time after a change was acted on is reported with that change."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


@dataclass(frozen=True)
class Orders:
    """What to run, and how to tell it of changes. `signal` None: start it anew; `grace_secs` None: no SIGKILL.

    `acknowledge`: whether the daemon is told which versions it has been given.
    """

    command: Sequence[str]
    signal: signal.Signals | None
    grace_secs: float | None
    acknowledge: bool = True


def obituary(command: str, status: int, changed: Sequence[Difference], after_secs: float) -> Failed | None:
    """Return what is to be said of a child that ended by itself, None where nothing is.

    `changed` is what it was started anew or signalled for last, `after_secs` before its end.
    """
    if not changed or status == 0 or after_secs > AT_ONCE_SECS:
        return None
    told = f"told of {', '.join(map(str, changed))}"
    undo = next((one for one in changed if one.before is not None and one.after is not None), None)
    return Failed(
        f"{command} ended with status {status} {after_secs:.1f} s after it was {told}; it isn't started again",
        hint=f"if the new value is at fault, `secretsctl restore {undo.name} {undo.before}` brings the old one back"
        if undo
        else None,
    )


class Supervisor:
    """One `run`, from the first fetch to the child's end."""

    def __init__(self, client: AsyncSecretsClient, plan: Plan, folder: Folder | None, orders: Orders) -> None:
        self._client = client
        self._plan = plan
        self._folder = folder
        self._orders = orders
        self._news = asyncio.Event()
        self._current: dict[str, Secret] = {}
        self._child: Child | None = None
        self._ending = asyncio.Event()
        self._pause = _FIRST_PAUSE
        self._acted: tuple[float, list[Difference]] = (0.0, [])

    async def run(self) -> int:
        """Return the status of the child that ended by itself.

        Raises Failed before anything is started when a secret can't be had, and CannotStart.
        """
        await self._listen()
        self._deliver_first()
        with self._passing_signals_on():
            child = await self._start(self._environment(self._current))
            self._remember()
            self._acknowledge(self._current)
            while await self._news_before_the_end(child):
                child = await self._act(child)
        return self._farewell(child.ended.result())

    async def _listen(self) -> None:
        """Fetch everything, and hear of every change from then on.

        What the client may not read is an error before it is watched; a value that changes between the two
        fetches is the second one's.
        """
        await self._fetch()
        for name in self._plan.secrets:
            await self._client.on_change(name, lambda _: self._news.set())
        self._current = await self._fetch()

    async def _fetch(self) -> dict[str, Secret]:
        """Return the current version of each secret, from the cache where nothing newer is known."""
        found = {}
        for name in self._plan.secrets:
            try:
                found[name] = await self._client.get(name)
                continue
            except SecretsUnavailable as error:
                failed: Failed = Unreachable(str(error), hint="is the daemon running? --url says where it is")
            except (SecretNotFound, AccessDenied) as error:
                failed = Failed(f"{name}: {error}", slug="forbidden")
            except SecretsError as error:
                failed = Failed(f"{name}: {error}")
            raise failed
        return found

    def _deliver_first(self) -> None:
        """Bring the files up to date before the child sees them, and say what has changed since the last run."""
        if self._folder is None:
            return
        before, ours = self._folder.remembered(), self._of_files(self._current)
        self._folder.update(self._current[name] for name in ours)
        self._folder.remove(before.keys() - ours.keys())
        if before and (changed := differences(before, ours)):
            note(f"changed since the last run: {', '.join(map(str, changed))}")

    async def _news_before_the_end(self, child: Child) -> bool:
        """Wait for a change or the child's end; return whether the child is there still."""
        news = asyncio.ensure_future(self._news.wait())
        await asyncio.wait({news, child.ended}, return_when=asyncio.FIRST_COMPLETED)
        news.cancel()
        return not child.ended.done()

    async def _act(self, child: Child) -> Child:
        """Fetch what changed, then signal the child or start it anew; return the one that runs now.

        Whatever can fail comes first: a child that runs is left alone while the new values can't be had.
        """
        await asyncio.wait({child.ended}, timeout=GATHER_SECS)
        self._news.clear()
        fetched = await self._take_up()
        changed = differences(_versions(self._current), _versions(fetched))
        try:
            made = self._environment(fetched)
            self._write(fetched, changed)
        except Failed as failed:
            self._later(failed)
            return child
        self._current = fetched
        told = [one for one in changed if one.after is not None]
        if not told or self._ending.is_set() or child.ended.done():
            self._remember()
            return child
        names = ", ".join(map(str, changed))
        if self._orders.signal is not None and not self._plan.needs_restart(one.name for one in told):
            note(f"changed: {names}; sending {self._orders.signal.name}")
            child.signal(self._orders.signal)
        else:
            note(f"changed: {names}; starting {self._orders.command[0]} anew")
            await child.stop(self._orders.grace_secs)
            if self._ending.is_set():
                return child
            child = await self._start(made)
        self._acted = (asyncio.get_running_loop().time(), changed)
        self._remember()
        self._acknowledge(one.name for one in told)
        return child

    def _acknowledge(self, names: Iterable[str]) -> None:
        """Tell the daemon what the child uses now: not before it was started or told."""
        if self._orders.acknowledge:
            for name in names:
                self._client.acknowledge(self._current[name])

    async def _take_up(self) -> dict[str, Secret]:
        """Return the secrets as they are now: without those that are gone, and as before where nobody answers."""
        now: dict[str, Secret] = {}
        for name in self._plan.secrets:
            try:
                now[name] = await self._client.get(name)
            except (SecretNotFound, AccessDenied) as error:
                if name in self._current:
                    note(f"{name} is gone: {error}")
            except SecretsError as error:
                self._later(error)
                now |= {name: self._current[name]} if name in self._current else {}
        return now

    def _later(self, reason: Exception) -> None:
        """Try again after a while, longer each time; the child goes on with what it has."""
        text = reason.message if isinstance(reason, Failed) else str(reason)
        note(f"the change can't be taken up ({text}); trying again in {self._pause:g} s")
        asyncio.get_running_loop().call_later(self._pause, self._news.set)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _write(self, fetched: Mapping[str, Secret], changed: Sequence[Difference]) -> None:
        """Replace the files that changed, take away those whose secret is gone."""
        if self._folder is None:
            return
        names = [one.name for one in changed if one.name in self._plan.files]
        self._folder.update(fetched[name] for name in names if name in fetched)
        self._folder.remove(name for name in names if name not in fetched)

    def _remember(self) -> None:
        if self._folder is not None:
            self._folder.remember(self._of_files(self._current))

    def _of_files(self, secrets: Mapping[str, Secret]) -> dict[str, Delivered]:
        return _versions({name: secret for name, secret in secrets.items() if name in self._plan.files})

    def _environment(self, secrets: Mapping[str, Secret]) -> dict[bytes, bytes]:
        values = {variable: secrets[name].data for variable, name in self._plan.variables.items() if name in secrets}
        try:
            return environment(os.environb, values)
        except BadChoice as error:
            raise Failed(str(error)) from None

    async def _start(self, made: Mapping[bytes, bytes]) -> Child:
        self._child = child = await Child.start(self._orders.command, made)
        if self._ending.is_set():  # asked to end while it was being started
            child.signal(signal.SIGTERM)
        return child

    @contextmanager
    def _passing_signals_on(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = wanted_signals()
        for number in numbers:
            loop.add_signal_handler(number, self._pass_on, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _pass_on(self, number: signal.Signals) -> None:
        """Give the child what we were sent. After a SIGTERM nothing is started any more."""
        if number == signal.SIGTERM:
            self._ending.set()
        if self._child is not None and not is_doubled(number):
            self._child.signal(number)

    def _farewell(self, status: int) -> int:
        acted_at, changed = self._acted
        lived = asyncio.get_running_loop().time() - acted_at
        said = None if self._ending.is_set() else obituary(self._orders.command[0], status, changed, lived)
        if said is not None:
            said.show()
        return status


def _versions(secrets: Mapping[str, Secret]) -> dict[str, Delivered]:
    return {name: Delivered(secret.kid, secret.version) for name, secret in secrets.items()}
