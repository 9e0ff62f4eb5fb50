"""age files under a passphrase: the scrypt stanza and the payload of age-encryption.org/v1 (https://c2sp.org/age).

rage chooses scrypt's cost by measuring the machine, and measures again to decide whether a file may be opened at all:
one made on a fast machine is refused by a slow or busy one (ADR 56). Here the cost is the `age` command's, always.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Callable, Iterator
from typing import IO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from secretsd.errors import AgeError

WORK_FACTOR: Final = 18
"""The base-two logarithm of scrypt's N: 256 MiB and about a second, on any machine."""
WORK_FACTOR_MOST: Final = 22
"""What is still opened, as the `age` command does: 4 GiB. More is somebody's wish to keep us busy."""
_SALT_LABEL: Final = b"age-encryption.org/v1/scrypt"
_SALT_BYTES: Final = 16
_FILE_KEY_BYTES: Final = 16
_NONCE_BYTES: Final = 16
_TAG_BYTES: Final = 16
_CHUNK_BYTES: Final = 64 * 1024
_HEADER_MOST: Final = 256
# An scrypt stanza stands alone: so the header has one form.
_HEADER: Final = re.compile(
    rb"(age-encryption\.org/v1\n-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n([A-Za-z0-9+/]{43})\n---)"
    rb" ([A-Za-z0-9+/]{43})\n"
)


def seal(read: Callable[[int], bytes], write: Callable[[bytes], object], passphrase: bytes) -> None:
    """Write what `read` gives, sealed, a chunk at a time. Raises AgeError without the memory, what `read` raises."""
    file_key, salt, nonce = (secrets.token_bytes(size) for size in (_FILE_KEY_BYTES, _SALT_BYTES, _NONCE_BYTES))
    # The nonce is fixed, since the key is of a fresh salt and wraps once.
    wrapped = _wrapping(passphrase, salt, WORK_FACTOR).encrypt(bytes(12), file_key, None)
    covered = b"age-encryption.org/v1\n-> scrypt %b %d\n%b\n---" % (_base64(salt), WORK_FACTOR, _base64(wrapped))
    write(b"%b %b\n%b" % (covered, _base64(_mac(file_key, covered)), nonce))
    payload = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
    for number, (chunk, is_last) in enumerate(_chunks(read, _CHUNK_BYTES)):
        write(payload.encrypt(_chunk_nonce(number, is_last=is_last), chunk, None))


def unseal(source: IO[bytes], write: Callable[[bytes], object], passphrase: bytes) -> None:
    """Write what `source`, an age file at its beginning that can seek, holds, a chunk at a time.

    What was written counts only once this has returned: a file cut short is noticed at its end. Raises AgeError.
    """
    try:
        _unseal(source, write, passphrase)
    except (InvalidTag, ValueError):
        raise AgeError("it doesn't open: the passphrase is another one, or the file is damaged or cut short") from None


def _unseal(source: IO[bytes], write: Callable[[bytes], object], passphrase: bytes) -> None:
    header = _HEADER.match(source.read(_HEADER_MOST))
    if header is None:
        raise ValueError("this is no header with one scrypt stanza")
    covered, salt, work_factor, wrapped, mac = header.groups()
    wrapping = _wrapping(passphrase, _bytes(salt), int(work_factor))
    file_key = wrapping.decrypt(bytes(12), _bytes(wrapped), None)
    if not hmac.compare_digest(_mac(file_key, covered), _bytes(mac)):
        raise ValueError("the header was altered")
    source.seek(header.end())
    payload = ChaCha20Poly1305(_derived(file_key, source.read(_NONCE_BYTES), b"payload"))
    for number, (chunk, is_last) in enumerate(_chunks(source.read, _CHUNK_BYTES + _TAG_BYTES)):
        if number and len(chunk) == _TAG_BYTES:
            raise ValueError("the last chunk is empty")
        write(payload.decrypt(_chunk_nonce(number, is_last=is_last), chunk, None))


def _wrapping(passphrase: bytes, salt: bytes, work_factor: int) -> ChaCha20Poly1305:
    if work_factor > WORK_FACTOR_MOST:
        raise AgeError(f"it asks for more work on its passphrase (2^{work_factor}) than is accepted: was it altered?")
    try:
        scrypt = Scrypt(salt=_SALT_LABEL + salt, length=32, n=1 << work_factor, r=8, p=1)
        return ChaCha20Poly1305(scrypt.derive(passphrase))
    except MemoryError:
        needed = f"{(1 << work_factor) // 1024} MiB"
        raise AgeError(f"its passphrase takes {needed} of memory, and so much isn't free on this machine") from None


def _derived(file_key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=salt, info=info).derive(file_key)


def _mac(file_key: bytes, covered: bytes) -> bytes:
    return hmac.digest(_derived(file_key, b"", b"header"), covered, "sha256")


def _chunk_nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _chunks(read: Callable[[int], bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield what `read` gives in chunks of `size`, each with whether it is the last; one, empty, of nothing."""
    chunk = _filled(read, size)
    while len(chunk) == size and (following := _filled(read, size)):
        yield chunk, False
        chunk = following
    yield chunk, True


def _filled(read: Callable[[int], bytes], size: int) -> bytes:
    """Return `size` bytes, fewer only at the end: a pipe gives what it has."""
    parts = []
    while size and (part := read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _bytes(text: bytes) -> bytes:
    data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    if _base64(data) != text:
        raise ValueError("this is not canonical base64")
    return data
