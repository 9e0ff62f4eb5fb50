"""Files sealed in the age format (age-encryption.org/v1), so that the `age` command opens them too.

What leaves the daemon's folder (backups, a recovery file, an old .env) is sealed to people, not to a machine: to a
passphrase (`agepassphrase`), or to recipients of whom each opens it alone: that rage does, through its bindings pyrage.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyrage
from pyrage import ssh, x25519

from secretsd.crypto import agepassphrase
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import AgeError

HEADER: Final = b"age-encryption.org/v1\n"
_PASSPHRASE_STANZA: Final = b"-> scrypt "

Recipient = x25519.Recipient | ssh.Recipient
Identity = x25519.Identity | ssh.Identity


@dataclass(frozen=True, slots=True)
class Recipients:
    """Whom a file is sealed to: any one of them opens it. Made by `recipients`."""

    keys: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class Identities:
    """The private halves that are tried on a file. Made by `identities`."""

    keys: tuple[Identity, ...]


def recipients(lines: Sequence[str]) -> Recipients:
    """Return the recipients in `lines`: `age1…` or an SSH public key each; blank lines and `#` comments are skipped.

    Raises AgeError when a line is neither, or none is left.
    """
    found: list[Recipient] = []
    for number, line in _meant(lines):
        try:
            found.append(x25519.Recipient.from_str(line) if line.startswith("age1") else ssh.Recipient.from_str(line))
        except (pyrage.RecipientError, ValueError) as error:
            raise AgeError(
                f"recipient {number} is no age recipient (age1…) and no SSH public key (ssh-ed25519 or ssh-rsa)"
            ) from error
    if not found:
        raise AgeError("no recipient was given: name an age recipient (age1…) or an SSH public key")
    return Recipients(tuple(found))


def identities(data: bytes) -> Identities:
    """Return the identities in a file's bytes: what `age-keygen` writes, or an unencrypted SSH private key.

    Raises AgeError when it is neither; the message never quotes the file.
    """
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return Identities((ssh.Identity.from_buffer(data),))
        lines = data.decode("ascii").splitlines()
        found = tuple(x25519.Identity.from_str(line) for _, line in _meant(lines))
    # Without `from`: the foreign messages may carry parts of a private key.
    except (pyrage.IdentityError, ValueError):
        raise AgeError(
            "that is no identity file: give what age-keygen wrote (AGE-SECRET-KEY-1…) or an SSH private key "
            "without a passphrase"
        ) from None
    if not found:
        raise AgeError("the identity file holds no identity (AGE-SECRET-KEY-1…)")
    return Identities(found)


def seal(data: Sensitive, to: Recipients | Sensitive) -> bytes:
    """Return `data` sealed to recipients, or under a passphrase (scrypt, about a second).

    age makes a fresh file key for each file, so no nonce of its payload ever meets the same key twice. Raises
    AgeError for an empty passphrase.
    """
    if isinstance(to, Recipients):
        return pyrage.encrypt(data.reveal(), to.keys)
    sealed = io.BytesIO()
    agepassphrase.seal(io.BytesIO(data.reveal()).read, sealed.write, passphrase_to_seal_under(to))
    return sealed.getvalue()


def open_sealed(sealed: bytes, using: Identities | Sensitive) -> Sensitive:
    """Return what `sealed` holds, with one of the identities or a passphrase.

    Raises AgeError when it is no age file, takes the other kind of key, is damaged, or doesn't open with this one.
    """
    check_key_fits(sealed, using)
    if isinstance(using, Sensitive):
        opened = io.BytesIO()
        agepassphrase.unseal(io.BytesIO(sealed), opened.write, using.reveal())
        return Sensitive(opened.getvalue())
    try:
        return Sensitive(pyrage.decrypt(sealed, using.keys))
    except (pyrage.DecryptError, ValueError):
        raise AgeError("it doesn't open: the identity is another one, or the file is damaged or cut short") from None


def check_key_fits(head: bytes, using: Identities | Sensitive) -> None:
    """Return when what begins with `head` is an age file that takes such a key as `using`. Raises AgeError."""
    if not is_age(head):
        raise AgeError("this is no age file: it is truncated, or another file than meant")
    if takes_passphrase(head) and isinstance(using, Identities):
        raise AgeError("this file is sealed under a passphrase, not to recipients: give the passphrase")
    if not takes_passphrase(head) and not isinstance(using, Identities):
        raise AgeError("this file is sealed to recipients, not under a passphrase: give an identity file")


def passphrase_to_seal_under(passphrase: Sensitive) -> bytes:
    """Return its bytes. Raises AgeError for an empty one, and for one that nobody could type: it is no UTF-8."""
    revealed = passphrase.reveal()
    if not revealed:
        raise AgeError("an empty passphrase protects nothing: give a real one")
    try:
        revealed.decode()
    except UnicodeDecodeError:
        raise AgeError("a passphrase is UTF-8 text") from None
    return revealed


def is_age(data: bytes) -> bool:
    """Tell whether the bytes begin as a binary age file does."""
    return data.startswith(HEADER)


def takes_passphrase(sealed: bytes) -> bool:
    """Tell whether an age file is sealed under a passphrase (its only stanza is scrypt's) rather than to recipients."""
    return sealed.startswith(HEADER + _PASSPHRASE_STANZA)


def _meant(lines: Sequence[str]) -> list[tuple[int, str]]:
    stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]
