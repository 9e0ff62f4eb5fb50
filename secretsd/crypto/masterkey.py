"""master.key: the one key that the others come from, plain or wrapped under a passphrase (docs/vault.md)."""

from __future__ import annotations

import secrets
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
SALT_BYTES: Final = 16


class Argon2Parameters(Struct, frozen=True, forbid_unknown_fields=True):
    """What Argon2id was run with (RFC 9106). The default is its second recommended set: 64 MiB, 3 passes, 4 lanes.

    The upper bounds keep a doctored file from taking the machine's memory before it is refused.
    """

    salt: str
    memory_kib: Annotated[int, Meta(ge=8 * 4, le=4 * 1024 * 1024)] = 64 * 1024
    iterations: Annotated[int, Meta(ge=1, le=64)] = 3
    lanes: Annotated[int, Meta(ge=1, le=64)] = 4


class KeyFile(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The document in master.key."""

    format: Literal[1]
    protection: Literal["none", "argon2id"]
    key: str
    nonce: str | None = None
    argon2id: Argon2Parameters | None = None


def generate() -> Sensitive:
    """Return a new random master key, 32 bytes."""
    return Sensitive(secrets.token_bytes(KEY_BYTES))


def encode(master: Sensitive, passphrase: Sensitive | None) -> bytes:
    """Return the bytes of master.key: the key itself, or wrapped under `passphrase` (slow and 64 MiB by intent)."""
    if passphrase is None:
        document = KeyFile(format=FORMAT, protection="none", key=b64url_encode(master.reveal()))
    else:
        parameters = Argon2Parameters(salt=b64url_encode(secrets.token_bytes(SALT_BYTES)))
        # The nonce is unique because the wrapping key is used once: it comes from a fresh random salt.
        nonce = secrets.token_bytes(NONCE_BYTES)
        wrapped = AESGCM(_stretch(passphrase, parameters)).encrypt(nonce, master.reveal(), _binding(parameters))
        document = KeyFile(
            format=FORMAT,
            protection="argon2id",
            key=b64url_encode(wrapped),
            nonce=b64url_encode(nonce),
            argon2id=parameters,
        )
    return msgspec.json.encode(document) + b"\n"


def is_wrapped(data: bytes, path: Path) -> bool:
    """Tell whether opening this key file takes a passphrase. Raises KeyFileError when it is no key file."""
    return _parse(data, path).protection == "argon2id"


def decode(data: bytes, path: Path, passphrase: Sensitive | None) -> Sensitive:
    """Return the master key in `data`. `path` is for the messages.

    Raises KeyFileError when the file isn't what `encode` makes, or the passphrase is missing or wrong.
    """
    document = _parse(data, path)
    try:
        key = b64url_decode(document.key)
        opened = key if document.protection == "none" else _unwrap(document, key, path, passphrase)
    except ValueError as error:
        raise _damaged(path) from error
    if len(opened) != KEY_BYTES:
        raise _damaged(path)
    return Sensitive(opened)


def _unwrap(document: KeyFile, wrapped: bytes, path: Path, passphrase: Sensitive | None) -> bytes:
    if document.argon2id is None or document.nonce is None:
        raise _damaged(path)
    if passphrase is None:
        raise KeyFileError(
            f"{path} is wrapped under a passphrase and none was given: set SECRETSD_PASSPHRASE_FILE, provide the "
            "systemd credential secretsd-passphrase, or start on a terminal to be asked"
        )
    parameters = document.argon2id
    try:
        return AESGCM(_stretch(passphrase, parameters)).decrypt(
            b64url_decode(document.nonce), wrapped, _binding(parameters)
        )
    except InvalidTag as error:
        raise KeyFileError(
            f"{path} doesn't open under this passphrase: it is another one, or the file was altered"
        ) from error


def _parse(data: bytes, path: Path) -> KeyFile:
    try:
        return msgspec.json.decode(data, type=KeyFile)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} isn't a master key of this format: it is truncated or altered; restore it from its backup"
    )


def _stretch(passphrase: Sensitive, parameters: Argon2Parameters) -> bytes:
    return Argon2id(
        salt=b64url_decode(parameters.salt),
        length=KEY_BYTES,
        iterations=parameters.iterations,
        lanes=parameters.lanes,
        memory_cost=parameters.memory_kib,
    ).derive(passphrase.reveal())


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
