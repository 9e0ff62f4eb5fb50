"""Rotation of the daemon's own keys while it serves: authorise, prepare the file, commit, tidy the file.

The order of writes is docs/vault.md's: whatever the machine does in between, one of the keys on disk opens the vault
and one signs the next line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UnsetType
from secretsd_bus import Event, SigningKey, key_rotated
from secretsd_bus.payloads import SigningKeyRotated, VaultKeyRotated

from secretsd.audit.eventkeys import KEY_ROTATED
from secretsd.auth import Caller
from secretsd.crypto import masterkey
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import KeyRotated, RotateKeyRequest
from secretsd.service.answers import Answered
from secretsd.service.commits import RETRY_SOON, Build, Done, Draft
from secretsd.service.core import Core
from secretsd.service.reasons import reason_given, refuse_values
from secretsd.service.writes import Writes
from secretsd.vault.document import Document, OwedLine
from secretsd.vault.keys import VaultKeys

log = logging.getLogger(__name__)


class KeyRotations(Writes):
    """`POST /keys/rotate`, and what is left of a rotation that was interrupted."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._rotating = asyncio.Lock()
        self.on_signing_key: Callable[[Event], None] = lambda _: None
        """Told of the line that introduced a new signing key, once that is in force."""

    async def rotate_key(
        self, caller: Caller, body: RotateKeyRequest, *, idempotency_key: str | None
    ) -> Answered[KeyRotated]:
        """Make a new data, signing or master key, or another passphrase for the master key.

        Raises Problem `forbidden`, `invalid-request`, `passphrase-pending`, `vault-unavailable`, `outcome-unknown`.
        """
        core = self._core
        core.serving()
        await core.gate.authorise(caller, "admin", "rotate-key")
        passphrase = _passphrase(body)
        refuse_values(reason_given(body.reason), [] if passphrase is None else [passphrase])
        async with self._rotating:
            if core.committer.unfinished:
                await core.committer.finish()
            await self._tidy()
            if body.key == "signing":
                await self._rotate_signing(caller, body, idempotency_key)
            elif passphrase is not None:
                await self._change_passphrase(caller, body, passphrase)
            else:
                await self._rotate_vault(caller, body, idempotency_key)
            await self._tidy()
        document = core.document
        done = KeyRotated(
            key=body.key,
            generation=document.generation,
            signing_keyid=core.event_keys.current.keyid,
            passphrase_pending=core.master_file.awaits_passphrase,
        )
        return Answered(done, document.position)

    async def tidy_keys(self) -> None:
        """Finish what a rotation left in the key files, and take up a passphrase that was changed meanwhile.

        Raises Problem `vault-unavailable`.
        """
        async with self._rotating:
            await self._in_file(self._core.master_file.reconsider)
            await self._tidy()

    def written(self, events: Sequence[Event]) -> None:
        """Let the new signing key be in force when the line that introduces it is durable."""
        core = self._core
        for event in events:
            if event.type == KEY_ROTATED and core.log.successor is not None:
                core.event_keys.rotated(event, core.log.successor)
                core.log.successor = None
                log.info("the signing key was rotated; events are signed by %s", core.event_keys.current.keyid)
                self.on_signing_key(event)

    def committed(self, done: Done) -> None:
        """Say that other keys are in force."""
        if done.resealed:
            log.info(
                "the vault's keys were rotated, all values are sealed anew, generation %d", done.document.generation
            )

    async def _rotate_vault(self, caller: Caller, body: RotateKeyRequest, idempotency_key: str | None) -> None:
        core = self._core
        master: Sensitive | None = None
        if body.key == "master":
            if core.master_file.awaits_passphrase:
                raise Problem(
                    "passphrase-pending",
                    "The passphrase was changed and the daemon has not been given the new one yet: a new master key "
                    "could be wrapped under one of the two only. Give the daemon the new passphrase and reload or "
                    "restart it, then ask again.",
                )
            master = masterkey.generate()
            new = master
            await self._in_file(lambda: core.master_file.add_key(new))
        keys = core.vault.keys.successor(master)
        await self._carried_through(caller, body, idempotency_key, self._build(caller, body, keys=keys))

    async def _rotate_signing(self, caller: Caller, body: RotateKeyRequest, idempotency_key: str | None) -> None:
        core = self._core
        new = SigningKey.generate()
        await self._in_file(lambda: core.key_files.add(core.event_keys.current, new))
        core.log.successor = new
        await self._carried_through(caller, body, idempotency_key, self._build(caller, body, signing=new))

    async def _change_passphrase(self, caller: Caller, body: RotateKeyRequest, passphrase: Sensitive) -> None:
        """Audit first: no passphrase opens the key that the log doesn't know of. Repeated, it only does so again."""
        await self._commit(caller, "rotate-key", "", None, None, self._build(caller, body))
        await self._in_file(lambda: self._core.master_file.add_passphrase(passphrase))

    async def _carried_through(
        self, caller: Caller, body: RotateKeyRequest, idempotency_key: str | None, build: Build
    ) -> None:
        """Commit; where that came to nothing, take the prepared key off its file again."""
        core = self._core
        try:
            await self._commit(caller, "rotate-key", "", body, idempotency_key, build)
        except BaseException:
            if not core.committer.unfinished:
                core.log.successor = None
                with contextlib.suppress(Problem):
                    await self._tidy()
            raise
        if not core.committer.unfinished:
            # Also of a request that was answered before, for which a key was made in vain.
            core.log.successor = None

    @staticmethod
    def _build(
        caller: Caller, body: RotateKeyRequest, *, keys: VaultKeys | None = None, signing: SigningKey | None = None
    ) -> Build:
        reason = reason_given(body.reason)

        def build(document: Document, generation: int) -> Draft:
            about: dict[str, Any] = {
                "client": caller.client,
                "reason": reason,
                "epoch": document.epoch,
                "generation": generation,
            }
            if body.key == "signing":
                assert signing is not None  # noqa: S101 — made by who asked for this draft
                introduced = SigningKeyRotated(key=body.key, **key_rotated(signing), **about)
                event = OwedLine(KEY_ROTATED, None, introduced.data())
            else:
                event = OwedLine("vault.key_rotated", None, VaultKeyRotated(key=body.key, **about).data())
            return Draft([event], {}, {}, keys=keys)

        return build

    async def _tidy(self) -> None:
        """Take off the key files what is no longer needed. Raises Problem `vault-unavailable`."""
        core = self._core

        def settle() -> None:
            core.master_file.settle(core.vault.keys.master)
            core.key_files.settle(core.event_keys)

        if not core.committer.unfinished:
            await self._in_file(settle)

    @staticmethod
    async def _in_file(work: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(work)
        except OSError as error:
            raise Problem(
                "vault-unavailable",
                f"The file of a key can't be written: {error.strerror}. What was in force before still is, or its "
                "successor where GET /keys or the audit log tell of one. Free some space or repair the file system, "
                "then ask again.",
                headers=RETRY_SOON,
            ) from error


def _passphrase(body: RotateKeyRequest) -> Sensitive | None:
    """Return the new passphrase, None where another key is meant. Raises Problem `invalid-request`."""
    given = body.passphrase
    if (body.key == "passphrase") is isinstance(given, UnsetType):
        raise Problem("invalid-request", 'passphrase: belongs to "key": "passphrase", and that alone needs it.')
    if isinstance(given, UnsetType):
        return None
    if given != given.strip("\r\n"):
        raise Problem("invalid-request", "passphrase: ends or begins with a newline, which a file of it wouldn't keep.")
    try:
        return Sensitive(given.encode())
    except UnicodeEncodeError:
        raise Problem("invalid-request", "passphrase: not UTF-8 text.") from None
