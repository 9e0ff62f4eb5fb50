"""The keys that sign events: the one in force, those before it, and their files (docs/audit.md).

A new key lies in audit.sign.key beside the old one before the line that introduces it is written, and which of the two
is in force is what the log says. All functions that touch files block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct
from secretsd_bus import Event, KeyRing, Refused, SigningKey, VerifyKey, verify_line

from secretsd import files
from secretsd.audit.reader import LogReader
from secretsd.errors import KeyFileError

KEY_ROTATED: Final = "audit.key_rotated"
_LINE_TYPE: Final = f"jarvis.secretsd.{KEY_ROTATED}"
_PUBLIC_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_PRIVATE_PEM: Final = re.compile(rb"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----\n?", re.DOTALL)
PUBLIC_FILE: Final = 0o644
PRIVATE_NAME: Final = "audit.sign.key"
PUBLIC_NAME: Final = "audit.sign.pub"
PAST_NAME: Final = "audit.keys.json"


@dataclass(frozen=True, slots=True)
class PastKey:
    """A key that signs nothing more, and the line that ended it: its last one, which introduces its successor."""

    key: VerifyKey
    line: bytes
    last_sequence: int

    def to_jwk(self) -> dict[str, Any]:
        """Return the key as `GET /keys` has it."""
        return {**self.key.to_jwk(), "last_sequence": self.last_sequence, "rotated": self.line.decode()}


@dataclass(slots=True)
class EventKeys:
    """The key in force and those before it, the newest of them first. A rotation replaces both."""

    current: SigningKey
    past: tuple[PastKey, ...] = ()

    def key_set(self) -> dict[str, object]:
        """Return the JWK set of `GET /keys`."""
        return {"keys": [self.current.public.to_jwk(), *(past.to_jwk() for past in self.past)]}

    def ring(self) -> KeyRing:
        """Return all of them as trusted keys: what any of them signed is ours."""
        return KeyRing([self.current.public, *(past.key for past in self.past)])

    def rotated(self, event: Event, new: SigningKey) -> None:
        """Go on with `new`, which the line `event` introduced."""
        ended = PastKey(self.current.public, event.raw, event.sequence or 0)
        self.current, self.past = new, (ended, *self.past)


class _StoredKey(Struct, frozen=True, forbid_unknown_fields=True):
    x: str
    rotated: str


class _Stored(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    past: Annotated[tuple[_StoredKey, ...], Meta(max_length=100_000)]


@dataclass(frozen=True, slots=True)
class EventKeyFiles:
    """Where the keys lie: the private one, the public ones, and the lines that ended those of the past."""

    private: Path
    public: Path
    past: Path

    @classmethod
    def beside(cls, audit_path: Path) -> EventKeyFiles:
        """Return the files that belong to the log in `audit_path`."""
        return cls(*(audit_path.with_name(name) for name in (PRIVATE_NAME, PUBLIC_NAME, PAST_NAME)))

    def candidates(self) -> list[SigningKey]:
        """Return the private keys of the file: one, or two while a rotation is unfinished. Raises KeyFileError."""
        try:
            data = files.read_private(self.private)
        except files.ReadableByOthers as error:
            raise KeyFileError(str(error)) from error
        except OSError as error:
            raise KeyFileError(f"can't read {self.private}: {error.strerror}") from error
        try:
            return private_keys_in(data)
        except ValueError as error:
            raise KeyFileError(
                f"{self.private} isn't an Ed25519 key in PKCS#8 PEM: restore it from its backup"
            ) from error

    def add(self, current: SigningKey, new: SigningKey) -> None:
        """Put `new` beside the key in force. Raises OSError; then it must not be introduced."""
        files.replace(self.private, current.to_pem() + new.to_pem())

    def load_past(self) -> tuple[PastKey, ...]:
        """Return the keys of the past, newest first; none where there is no file. Raises KeyFileError."""
        try:
            stored = msgspec.json.decode(files.read_regular(self.past), type=_Stored)
            return tuple(map(_past_key, stored.past))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyFileError(f"can't read {self.past}: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, Refused) as error:
            raise KeyFileError(
                f"{self.past} doesn't hold the signing keys of the past: it was edited. Restore it from its backup, or "
                "move it away: the keys are then read from the log again"
            ) from error

    def settle(self, keys: EventKeys) -> None:
        """Write the files as `keys` are; what is in order is left alone. Raises OSError.

        The lines first: without them a key of the past could not be told. The old private key goes last.
        """
        if keys.past:
            _write(self.past, past_file(keys), PUBLIC_FILE)
        _write(self.public, public_file(keys), PUBLIC_FILE)
        _write(self.private, keys.current.to_pem(), files.PRIVATE_FILE)


def past_file(keys: EventKeys) -> bytes:
    """Return the bytes of audit.keys.json."""
    past = tuple(_StoredKey(one.key.to_jwk()["x"], one.line.decode()) for one in keys.past)
    return msgspec.json.encode(_Stored(format=1, past=past)) + b"\n"


def public_file(keys: EventKeys) -> bytes:
    """Return the bytes of audit.sign.pub: the key in force, then those before it."""
    return b"".join(key.to_pem() for key in (keys.current.public, *(past.key for past in keys.past)))


def private_keys_in(pem: bytes) -> list[SigningKey]:
    """Return the private keys in one PEM or more. Raises ValueError where one isn't Ed25519."""
    return [SigningKey.from_pem(one) for one in _PRIVATE_PEM.findall(pem) or [pem]]


def linked(current: VerifyKey, past: Sequence[PastKey]) -> tuple[PastKey, ...]:
    """Return those of `past`, newest first, that lead to `current` unbroken: each introduced the one after it."""
    found: list[PastKey] = []
    follows = current
    for one in past:
        ring = KeyRing([one.key])
        try:
            introduced = ring.follow(verify_line(one.line, ring))
        except Refused:
            break
        if introduced is None or introduced.keyid != follows.keyid:
            break
        found.append(one)
        follows = one.key
    return tuple(found)


def in_force(
    candidates: Sequence[SigningKey], newest: bytes | None, past: Sequence[VerifyKey] = ()
) -> SigningKey | None:
    """Return which of the keys signs the next line after `newest`; None when it is none of them.

    A line that introduces one of them hands over to it; it may be by one of the `past`.
    """
    if newest is None:
        return candidates[0]
    ring = KeyRing([*(key.public for key in candidates), *past])
    try:
        event = verify_line(newest, ring)
    except Refused:
        return None
    follows = ring.follow(event) if event.type == KEY_ROTATED else None
    keyid = event.keyid if follows is None else follows.keyid
    return next((key for key in candidates if key.keyid == keyid), None)


def with_missing(past: tuple[PastKey, ...], log: Path, keys: Sequence[VerifyKey]) -> tuple[PastKey, ...]:
    """Return `past`, and those of `keys` that the log says were rotated since; reads on in the log. Raises OSError."""
    known = list(past)
    ring = KeyRing([*keys, *(one.key for one in past)])
    for event in _rotations(log, past[0].last_sequence if past else 0, ring):
        ended = ring.get(event.keyid)
        assert ended is not None  # noqa: S101 — it verified the line
        known.insert(0, PastKey(ended, event.raw, event.sequence or 0))
    return tuple(known)


def _rotations(log: Path, after: int, ring: KeyRing) -> Iterator[Event]:
    for place, line in LogReader(log).lines(after):
        if place.type == _LINE_TYPE:
            try:
                event = verify_line(line, ring)
            except Refused:
                continue  # by a key of which nothing is known any more
            ring.follow(event)
            yield event


def keys_in(pem: bytes) -> list[VerifyKey]:
    """Return the keys in one PEM or more, the one in force first. Raises ValueError where one isn't Ed25519."""
    return [VerifyKey.from_pem(one) for one in _PUBLIC_PEM.findall(pem)]


def _past_key(stored: _StoredKey) -> PastKey:
    key = VerifyKey.from_jwk({"kty": "OKP", "crv": "Ed25519", "x": stored.x})
    line = stored.rotated.encode()
    event = verify_line(line, KeyRing([key]))
    if event.type != KEY_ROTATED or event.sequence is None:
        raise ValueError("not a line that introduces a key")
    return PastKey(key, line, event.sequence)


def _write(path: Path, data: bytes, mode: int) -> None:
    if not path.is_file() or path.read_bytes() != data:
        files.replace(path, data, mode)
