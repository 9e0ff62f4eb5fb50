"""master.key: the one key that the others come from, plain or wrapped under a passphrase (docs/vault.md).

While a key or its passphrase is being changed the file holds both, the new one last; whichever the vault is under
opens it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from msgspec import Meta, Struct
from secretsd_bus import b64url_decode, b64url_encode, canonical

from secretsd.crypto.derive import KEY_BYTES
from secretsd.crypto.sealing import NONCE_BYTES
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import KeyFileError

FORMAT: Final = 1
SEVERAL: Final = 2
"""The format of a file that holds more than one key."""
SALT_BYTES: Final = 16


class Argon2Parameters(Struct, frozen=True, forbid_unknown_fields=True):
    """What Argon2id was run with (RFC 9106). The default is its second recommended set: 64 MiB, 3 passes, 4 lanes.

    The upper bounds keep a doctored file from taking the machine's memory before it is refused.
    """

    salt: str
    memory_kib: Annotated[int, Meta(ge=8 * 4, le=4 * 1024 * 1024)] = 64 * 1024
    iterations: Annotated[int, Meta(ge=1, le=64)] = 3
    lanes: Annotated[int, Meta(ge=1, le=64)] = 4


class Wrapping(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One master key as it lies in the file: itself, or wrapped under a passphrase."""

    protection: Literal["none", "argon2id"]
    key: str
    nonce: str | None = None
    argon2id: Argon2Parameters | None = None


class _Single(Wrapping, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """master.key of format 1."""

    format: Literal[1]


class _Several(Struct, frozen=True, forbid_unknown_fields=True):
    """master.key of format 2: there only while a key or a passphrase is being changed."""

    format: Literal[2]
    keys: Annotated[tuple[Wrapping, ...], Meta(min_length=2, max_length=4)]


class _Preamble(Struct, frozen=True):
    format: int


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """A master key, and how it is wrapped: another one can be wrapped alike without the passphrase."""

    master: Sensitive
    wrapping: Wrapping
    _stretched: Sensitive | None = None

    def alike(self, master: Sensitive) -> OpenedKey:
        """Return `master` wrapped under the same passphrase, or plain like this one."""
        return _wrap(master, self._stretched, self.wrapping.argon2id)


def generate() -> Sensitive:
    """Return a new random master key, 32 bytes."""
    return Sensitive(secrets.token_bytes(KEY_BYTES))


def wrap(master: Sensitive, passphrase: Sensitive | None) -> OpenedKey:
    """Return `master` plain, or wrapped under `passphrase` with a fresh salt (slow and 64 MiB by intent)."""
    if passphrase is None:
        return _wrap(master, None, None)
    parameters = Argon2Parameters(salt=b64url_encode(secrets.token_bytes(SALT_BYTES)))
    return _wrap(master, _stretch(passphrase, parameters), parameters)


def encode(master: Sensitive, passphrase: Sensitive | None) -> bytes:
    """Return the bytes of master.key: the key itself, or wrapped under `passphrase` (slow and 64 MiB by intent)."""
    return encode_all([wrap(master, passphrase).wrapping])


def encode_all(keys: Sequence[Wrapping]) -> bytes:
    """Return the bytes of a master.key that holds `keys`, the one that is being changed to last."""
    if len(keys) == 1:
        (key,) = keys
        return msgspec.json.encode({"format": FORMAT, **msgspec.to_builtins(key)}) + b"\n"
    return msgspec.json.encode(_Several(format=SEVERAL, keys=tuple(keys))) + b"\n"


def is_wrapped(data: bytes, path: Path) -> bool:
    """Tell whether opening this key file takes a passphrase. Raises KeyFileError when it is no key file."""
    return all(one.protection == "argon2id" for one in wrappings(data, path))


def decode(data: bytes, path: Path, passphrase: Sensitive | None) -> Sensitive:
    """Return the master key in `data`; of several the first that opens. `path` is for the messages.

    Raises KeyFileError when the file isn't what `encode` makes, or the passphrase is missing or wrong.
    """
    return next(key for key in open_all(data, path, passphrase) if key is not None).master


def open_all(data: bytes, path: Path, passphrase: Sensitive | None) -> list[OpenedKey | None]:
    """Return the keys of the file in its order, None for one that is under another passphrase.

    Raises KeyFileError as `decode`, also when none opens.
    """
    opened: list[OpenedKey | None] = []
    trouble: KeyFileError | None = None
    for one in wrappings(data, path):
        try:
            opened.append(_open(one, path, passphrase))
        except KeyFileError as error:
            trouble = trouble or error
            opened.append(None)
    if trouble is not None and not any(opened):
        raise trouble
    return opened


def wrappings(data: bytes, path: Path) -> tuple[Wrapping, ...]:
    """Return the keys as they lie in the file, unopened. Raises KeyFileError when it is no key file."""
    try:
        if msgspec.json.decode(data, type=_Preamble).format == SEVERAL:
            return msgspec.json.decode(data, type=_Several).keys
        document = msgspec.json.decode(data, type=_Single)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _damaged(path) from error
    return (Wrapping(document.protection, document.key, document.nonce, document.argon2id),)


def _wrap(master: Sensitive, stretched: Sensitive | None, parameters: Argon2Parameters | None) -> OpenedKey:
    if stretched is None or parameters is None:
        return OpenedKey(master, Wrapping("none", b64url_encode(master.reveal())))
    # The nonce is unique because it is 96 fresh random bits, and the wrapping key, which comes from a random salt,
    # wraps one key at each change of the master key: far fewer than 2**32 (NIST SP 800-38D, 8.3).
    nonce = secrets.token_bytes(NONCE_BYTES)
    wrapped = AESGCM(stretched.reveal()).encrypt(nonce, master.reveal(), _binding(parameters))
    return OpenedKey(master, Wrapping("argon2id", b64url_encode(wrapped), b64url_encode(nonce), parameters), stretched)


def _open(document: Wrapping, path: Path, passphrase: Sensitive | None) -> OpenedKey:
    stretched: Sensitive | None = None
    try:
        key = b64url_decode(document.key)
        if document.protection == "argon2id":
            key, stretched = _unwrap(document, key, path, passphrase)
    except ValueError as error:
        raise _damaged(path) from error
    if len(key) != KEY_BYTES:
        raise _damaged(path)
    return OpenedKey(Sensitive(key), document, stretched)


def _unwrap(document: Wrapping, wrapped: bytes, path: Path, passphrase: Sensitive | None) -> tuple[bytes, Sensitive]:
    if document.argon2id is None or document.nonce is None:
        raise _damaged(path)
    if passphrase is None:
        raise KeyFileError(
            f"{path} is wrapped under a passphrase and none was given: set SECRETSD_PASSPHRASE_FILE, provide the "
            "systemd credential secretsd-passphrase, or start on a terminal to be asked"
        )
    parameters = document.argon2id
    stretched = _stretch(passphrase, parameters)
    try:
        opened = AESGCM(stretched.reveal()).decrypt(b64url_decode(document.nonce), wrapped, _binding(parameters))
    except InvalidTag as error:
        raise KeyFileError(
            f"{path} doesn't open under this passphrase: it is another one, or the file was altered"
        ) from error
    return opened, stretched


def _damaged(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} isn't a master key of this format: it is truncated or altered; restore it from its backup"
    )


def _stretch(passphrase: Sensitive, parameters: Argon2Parameters) -> Sensitive:
    derivation = Argon2id(
        salt=b64url_decode(parameters.salt),
        length=KEY_BYTES,
        iterations=parameters.iterations,
        lanes=parameters.lanes,
        memory_cost=parameters.memory_kib,
    )
    return Sensitive(derivation.derive(passphrase.reveal()))


def _binding(parameters: Argon2Parameters) -> bytes:
    return canonical.encode(
        [
            "master.key",
            FORMAT,
            parameters.salt,
            parameters.memory_kib,
            parameters.iterations,
            parameters.lanes,
        ]
    )
