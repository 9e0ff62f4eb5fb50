"""master.key while it is being changed: which of its keys is in force, and the order of its writes (docs/vault.md).

What is written never leaves a moment in which the vault opens under no key of the file: the new one joins the old one
before anything depends on it, and the old one goes when nothing does any more. All of it blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from secretsd import files
from secretsd.crypto import masterkey
from secretsd.crypto.masterkey import OpenedKey, Wrapping
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import KeyFileError


class MasterKeyFile:
    """The file of the master key of one vault, opened."""

    def __init__(
        self,
        path: Path,
        current: OpenedKey,
        awaited: Sequence[Wrapping] = (),
        *,
        unsettled: bool = False,
        provided: Callable[[], Sensitive | None] = lambda: None,
    ) -> None:
        """`awaited` are the same key under a passphrase that the daemon hasn't been started with yet.

        `provided` returns the passphrase that a start would be given now.
        """
        self.path = path
        self._current = current
        self._awaited = tuple(awaited)
        self._unsettled = unsettled
        self._next: OpenedKey | None = None
        self._provided = provided

    @classmethod
    def chosen(
        cls,
        path: Path,
        stored: Sequence[Wrapping],
        opened: Sequence[OpenedKey | None],
        master: Sensitive,
        provided: Callable[[], Sensitive | None],
    ) -> MasterKeyFile:
        """Return the file, given what it holds and opens to (in its order) and the key that the vault is under.

        The last one that opens is the one to keep: a key that comes before it has been changed to it. What comes
        after it and doesn't open waits for its passphrase.
        """
        at = max(index for index, key in enumerate(opened) if key is not None and key.master == master)
        current = opened[at]
        assert current is not None  # noqa: S101 — that is what was looked for
        awaited = [one for one, key in zip(stored[at + 1 :], opened[at + 1 :], strict=True) if key is None]
        unsettled = len(awaited) + 1 < len(stored)
        return cls(path, current, awaited, unsettled=unsettled, provided=provided)

    @property
    def awaits_passphrase(self) -> bool:
        """Whether a changed passphrase has not been used yet, so that the old one still opens the file."""
        return bool(self._awaited)

    @property
    def unsettled(self) -> bool:
        """Whether the file holds a key that nothing needs any more."""
        return self._unsettled

    @property
    def is_wrapped(self) -> bool:
        """Whether the key in force is under a passphrase."""
        return self._current.wrapping.protection == "argon2id"

    def add_key(self, master: Sensitive) -> None:
        """Put `master` beside the key in force, protected alike. Raises OSError; then it must not be used."""
        self._next = self._current.alike(master)
        self._unsettled = True
        files.replace(self.path, masterkey.encode_all([self._current.wrapping, self._next.wrapping]))

    def add_passphrase(self, passphrase: Sensitive) -> None:
        """Put the key in force beside itself, under `passphrase`; slow. Raises OSError."""
        self._next = masterkey.wrap(self._current.master, passphrase)
        self._unsettled = True
        files.replace(self.path, masterkey.encode_all([self._current.wrapping, self._next.wrapping]))

    def settle(self, master: Sensitive) -> None:
        """Take off the file what the vault, which is under `master`, doesn't need any more. Raises OSError.

        A changed passphrase replaces the old one only where the daemon would be given it at its next start; until
        then both open the file.
        """
        if self._next is not None and self._next.master == master:
            if self._next.master == self._current.master and not self._would_open(self._next.wrapping):
                self._awaited = (self._next.wrapping,)
            else:
                self._current, self._awaited = self._next, ()
        self._next = None
        if self._unsettled:
            files.replace(self.path, masterkey.encode_all([self._current.wrapping, *self._awaited]))
            self._unsettled = False

    def reconsider(self) -> None:
        """Take the old passphrase off where the daemon would be given the new one by now; slow. Raises OSError."""
        found = [key for key in self._opened_now(self._awaited) if key is not None]
        if found:
            self._current, self._awaited, self._unsettled = found[-1], (), True
        self.settle(self._current.master)

    def _would_open(self, wrapping: Wrapping) -> bool:
        return any(self._opened_now([wrapping]))

    def _opened_now(self, stored: Sequence[Wrapping]) -> Sequence[OpenedKey | None]:
        """Return which of `stored` the passphrase opens that a start would be given now."""
        if not stored:
            return ()
        try:
            return masterkey.open_all(masterkey.encode_all(stored), self.path, self._provided())
        except KeyFileError:
            return ()
