"""age files under a passphrase: rage opens them and is opened, and what the format forbids is refused."""

from __future__ import annotations

import base64
import hmac
import io
import os
from collections.abc import Iterator, Sequence
from typing import Final

import pyrage
import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from secretsd.crypto import agepassphrase
from secretsd.errors import AgeError

PASSPHRASE: Final = "korrektes Pferd, Batterie"
CHUNK: Final = 65_536
SIZES: Final = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 7)
FILE_KEY: Final = b"0123456789abcdef"
SALT: Final = b"a salt of 16 by."
CHEAP: Final = 4


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agepassphrase, "WORK_FACTOR", CHEAP)


def sealed(data: bytes) -> bytes:
    out = io.BytesIO()
    agepassphrase.seal(io.BytesIO(data).read, out.write, PASSPHRASE.encode())
    return out.getvalue()


def opened(data: bytes, passphrase: str = PASSPHRASE) -> bytes:
    out = io.BytesIO()
    agepassphrase.unseal(io.BytesIO(data), out.write, passphrase.encode())
    return out.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def derived(salt: bytes, info: bytes, key: bytes = FILE_KEY) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(key)


def stanza(
    salt: str = b64(SALT), factor: str = str(CHEAP), *, key: bytes = FILE_KEY, more: str = "", meant: bytes = SALT
) -> str:
    """An scrypt stanza as a forger who knows the passphrase can write it; `meant` is the salt that is used."""
    wrapping = Scrypt(b"age-encryption.org/v1/scrypt" + meant, 32, 1 << CHEAP, 8, 1).derive(PASSPHRASE.encode())
    return f"-> scrypt {salt} {factor}{more}\n{b64(ChaCha20Poly1305(wrapping).encrypt(bytes(12), key, None))}\n"


def crafted(stanzas: str, payload: bytes | None = None, *, mac: str | None = None, key: bytes = FILE_KEY) -> bytes:
    """A file with these stanzas, whose header's MAC is right unless another is given."""
    covered = f"age-encryption.org/v1\n{stanzas}---".encode()
    right = b64(hmac.digest(derived(b"", b"header", key), covered, "sha256"))
    return (
        covered + f" {right if mac is None else mac}\n".encode() + (chunks([(b"x", 1)]) if payload is None else payload)
    )


def chunks(parts: Sequence[tuple[bytes, int]]) -> bytes:
    """A payload of chunks, each with its flag (1: it says that it is the last)."""
    nonce = bytes(range(16))
    aead = ChaCha20Poly1305(derived(nonce, b"payload"))
    return nonce + b"".join(
        aead.encrypt(number.to_bytes(11, "big") + bytes([flag]), part, None)
        for number, (part, flag) in enumerate(parts)
    )


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("size", SIZES)
def test_rage_opens_what_is_sealed_here(size: int) -> None:
    data = os.urandom(size)
    assert pyrage.passphrase.decrypt(sealed(data), PASSPHRASE) == data


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_here_opens_here(size: int) -> None:
    data = os.urandom(size)
    assert opened(sealed(data)) == data


def test_what_rage_sealed_opens_here() -> None:
    data = os.urandom(2 * CHUNK + 7)
    assert opened(pyrage.passphrase.encrypt(data, PASSPHRASE)) == data


def test_the_cost_is_the_same_on_every_machine() -> None:
    file = sealed(b"x")
    assert file.split(b"\n")[1].endswith(b" 18")
    assert opened(file) == b"x"


@pytest.mark.usefixtures("cheap")
def test_another_passphrase_opens_nothing() -> None:
    with pytest.raises(AgeError, match="the passphrase is another one"):
        opened(sealed(b"x"), "falsch")


@pytest.mark.usefixtures("cheap")
def test_no_two_files_are_sealed_alike() -> None:
    first, second = (sealed(b"the same").split(b"\n") for _ in range(2))
    assert first[1] != second[1]
    assert first[2] != second[2]
    assert first[4] != second[4]


@pytest.mark.usefixtures("cheap")
def test_it_is_a_stream_that_may_come_in_pieces() -> None:
    data, out = os.urandom(4 * CHUNK), io.BytesIO()
    written_when_read: list[int] = []
    source = io.BytesIO(data)

    def read(size: int) -> bytes:
        written_when_read.append(out.tell())
        return source.read(min(size, 1000))

    agepassphrase.seal(read, out.write, PASSPHRASE.encode())
    assert opened(out.getvalue()) == data
    assert written_when_read[-1] > 3 * CHUNK, "it was not written before all was read"


def headers() -> Iterator[tuple[str, bytes]]:
    """What c2sp.org/age forbids, made by somebody who knows the passphrase: only the rule is in the way."""
    good = stanza()
    yield "an argument more", crafted(stanza(more=" 1"))
    yield "an argument less", crafted(good.replace(f" {CHEAP}\n", "\n"))
    yield "no salt", crafted(good.replace(f" {b64(SALT)}", ""))
    yield "a short salt", crafted(stanza(b64(SALT[:-1]), meant=SALT[:-1]))
    yield "a salt that is not canonical", crafted(stanza(b64(SALT)[:-1] + "h"))
    yield "a padded salt", crafted(stanza(b64(SALT) + "=="))
    yield "a leading zero", crafted(stanza(factor=f"0{CHEAP}"))
    yield "a plus", crafted(stanza(factor=f"+{CHEAP}"))
    yield "hexadecimal", crafted(stanza(factor=f"0x{CHEAP}"))
    yield "no work", crafted(stanza(factor="0"))
    yield "less than none", crafted(stanza(factor="-4"))
    yield "another factor", crafted(stanza(factor=str(CHEAP + 1)))
    yield "another name", crafted(good.replace("scrypt", "Scrypt"))
    yield "twice", crafted(good + good)
    yield "beside another stanza", crafted(good + "-> x grease\n\n")
    yield "a long file key", crafted(stanza(key=FILE_KEY * 2), key=FILE_KEY * 2)
    yield "a body over two lines", crafted(good[:-22] + "\n" + good[-22:])
    yield "a wrong MAC", crafted(good, mac=b64(bytes(32)))
    yield "no MAC", crafted(good, mac="")
    yield "carriage returns", crafted(good.replace("\n", "\r\n"))
    yield "another version", crafted(good).replace(b"/v1", b"/v2", 1)


@pytest.mark.parametrize("file", [file for _, file in headers()], ids=[name for name, _ in headers()])
def test_a_header_that_the_format_forbids_is_refused(file: bytes) -> None:
    with pytest.raises(AgeError, match="it doesn't open"):
        opened(file)


def test_a_crafted_file_opens_where_nothing_is_forbidden() -> None:
    assert opened(crafted(stanza())) == b"x"


FULL: Final = bytes(CHUNK)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        chunks([])[:8],
        chunks([]),
        chunks([(b"x", 0)]),
        chunks([(FULL, 0)]),
        chunks([(FULL, 0), (b"", 1)]),
        chunks([(FULL, 1), (b"x", 1)]),
        chunks([(FULL, 0), (b"x", 0)]),
        chunks([(b"x", 1)]) + b"more",
        chunks([(b"x", 1)])[:-1],
        chunks([(FULL, 0), (b"x", 1)])[:-1],
        chunks([(FULL + b"x", 1)]),
    ],
    ids=[
        "nothing", "half a nonce", "no chunk", "no last chunk", "no last chunk, full", "an empty last chunk",
        "two last chunks", "no last chunk of two", "something after it", "a cut tag", "a cut tag, two",
        "a long chunk",
    ],
)  # fmt: skip
def test_a_payload_that_was_cut_or_put_together_is_refused(payload: bytes) -> None:
    with pytest.raises(AgeError, match="damaged or cut short"):
        opened(crafted(stanza(), payload))


def test_more_work_than_the_age_command_does_is_refused_at_once() -> None:
    with pytest.raises(AgeError, match="more work"):
        opened(crafted(stanza(factor="23")))


def test_too_little_memory_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small:
        def __init__(self, **_parameters: object) -> None:
            raise MemoryError

    monkeypatch.setattr(agepassphrase, "Scrypt", Small)
    with pytest.raises(AgeError, match="takes 256 MiB of memory"):
        sealed(b"x")
