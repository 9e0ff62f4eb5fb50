"""Which keys may sign what this client believes (rule 7)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from secretsd_bus import Event, KeyRing, Topics, Verifier, VerifyKey, follow_published

from secretsd_client._errors import SecretsError

OLD_KEY_SECS = 60.0
"""How long after a rotation the old key still counts, for what was under way when it was rotated."""
PAST = "last_sequence"
"""The member of a key in `GET /keys` that marks it as a past one."""

Step = Literal["followed", "repeated", "not_followed"]


class Trust:
    """The daemon's key, or keys for the minute after a rotation."""

    def __init__(self, pinned: VerifyKey | None = None) -> None:
        self.pinned = pinned is not None
        self._newest = pinned
        self._ring = KeyRing([] if pinned is None else [pinned])
        self._drop_old_at: float | None = None
        self._sequence = -1

    @classmethod
    def from_pem_file(cls, path: Path | None) -> Self:
        """Return trust in the key of a PEM file, and in no other; None: in what HTTP will give."""
        if path is None:
            return cls()
        try:
            return cls(VerifyKey.from_pem(path.read_bytes()))
        except OSError as error:
            reason = error.strerror or "can't be read"
        except ValueError:
            reason = "is not the PEM of an Ed25519 public key"
        raise SecretsError(f"the signing key {path}: {reason}")

    @property
    def known(self) -> bool:
        """Whether there is any key to verify with."""
        return self._newest is not None

    def learn(self, keys: Iterable[Mapping[str, Any]], now: float = 0.0) -> bool:
        """Trust the current keys that HTTP gave and no others; return whether there are any.

        A pinned key is left only for one that it leads to, by lines that each key signed for the next.
        """
        keys = list(keys)
        if self.pinned and self._newest is not None:
            self._follow_published(self._newest, keys, now)
        current = []
        for jwk in keys:
            if PAST not in jwk:
                try:
                    current.append(VerifyKey.from_jwk(dict(jwk)))
                except (ValueError, KeyError, TypeError):
                    continue  # a key of a kind that this client doesn't know signs nothing for it
        if not self.pinned and current:
            self._newest, self._ring, self._drop_old_at = current[-1], KeyRing(current), None
        return bool(current)

    def follow(self, event: Event, now: float) -> Step:
        """Follow a verified `audit.key_rotated` to the new key.

        `repeated`: an old one, said again. `not_followed`: the new key's proof is wrong, or the signer is a key that
        was itself rotated: it counts a minute longer for what was under way, and names no successor any more.
        """
        if event.sequence is None or event.sequence <= self._sequence:
            return "repeated"
        retired = self._drop_old_at is not None and self._newest is not None and event.keyid != self._newest.keyid
        new = None if retired else self._ring.follow(event)
        if new is None:
            return "not_followed"
        self._sequence = event.sequence
        self._newest = new
        self._drop_old_at = now + OLD_KEY_SECS
        return "followed"

    def _follow_published(self, known: VerifyKey, keys: Iterable[Mapping[str, Any]], now: float) -> None:
        """Go on with the key that the known one was rotated to while this client did not listen."""
        newest, sequence = follow_published(known, keys)
        if sequence > self._sequence:
            self._newest, self._sequence = newest, sequence
            self._ring.add(newest)
            self._drop_old_at = now + OLD_KEY_SECS

    def verifier(self, topics: Topics, now: float) -> Verifier:
        """Return a verifier with the keys that count now."""
        if self._drop_old_at is not None and now >= self._drop_old_at and self._newest is not None:
            self._ring, self._drop_old_at = KeyRing([self._newest]), None
        return Verifier(topics, self._ring)
