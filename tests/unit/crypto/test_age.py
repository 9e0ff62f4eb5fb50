from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from pyrage import x25519

from secretsd.crypto import age
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import AgeError

DATA = Sensitive(b"POSTGRES_PASSWORD=geheim\n" * 5000)
PASSPHRASE = Sensitive(b"korrektes Pferd, Batterie")
SSH_PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN alice@example.com"


def pair() -> tuple[str, age.Identities]:
    identity = x25519.Identity.generate()
    return str(identity.to_public()), age.identities(f"# created: today\n{identity}\n".encode())


def test_each_of_several_recipients_opens_a_file_alone() -> None:
    alice, alices = pair()
    bob, bobs = pair()
    sealed = age.seal(DATA, age.recipients([alice, "# the other one", "", bob]))
    assert b"geheim" not in sealed
    assert age.open_sealed(sealed, alices) == DATA
    assert age.open_sealed(sealed, bobs) == DATA


def test_another_identity_opens_nothing() -> None:
    sealed = age.seal(DATA, age.recipients([pair()[0]]))
    with pytest.raises(AgeError, match="doesn't open"):
        age.open_sealed(sealed, pair()[1])


def test_a_passphrase_seals_and_opens_and_another_does_not() -> None:
    sealed = age.seal(DATA, PASSPHRASE)
    assert age.takes_passphrase(sealed)
    assert age.open_sealed(sealed, PASSPHRASE) == DATA
    with pytest.raises(AgeError, match="doesn't open"):
        age.open_sealed(sealed, Sensitive(b"falsch"))


def test_the_other_kind_of_key_is_named() -> None:
    to_people = age.seal(DATA, age.recipients([pair()[0]]))
    with pytest.raises(AgeError, match="give an identity file"):
        age.open_sealed(to_people, PASSPHRASE)
    with pytest.raises(AgeError, match="give the passphrase"):
        age.open_sealed(age.seal(DATA, PASSPHRASE), pair()[1])


@pytest.mark.parametrize("where", [30, 300, -1])
def test_a_damaged_or_truncated_file_opens_nothing(where: int) -> None:
    recipient, identities = pair()
    sealed = age.seal(DATA, age.recipients([recipient]))
    damaged = bytearray(sealed)
    damaged[where] ^= 1
    for broken in (bytes(damaged), sealed[:where]):
        with pytest.raises(AgeError):
            age.open_sealed(broken, identities)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"age-encryption.org/v2\n"])
def test_what_is_no_age_file_is_called_so(data: bytes) -> None:
    with pytest.raises(AgeError, match="no age file"):
        age.open_sealed(data, PASSPHRASE)


@pytest.mark.parametrize("lines", [["age1nonsense"], ["ssh-ed25519 AAAA"], ["me@example.com"]])
def test_a_wrong_recipient_is_refused(lines: list[str]) -> None:
    with pytest.raises(AgeError, match="recipient 1 is no age recipient"):
        age.recipients(lines)


def test_no_recipient_and_an_empty_passphrase_are_refused() -> None:
    with pytest.raises(AgeError, match="no recipient"):
        age.recipients(["", "# nobody"])
    with pytest.raises(AgeError, match="empty passphrase"):
        age.seal(DATA, Sensitive(b""))


def test_an_ssh_key_is_a_recipient() -> None:
    assert age.is_age(age.seal(DATA, age.recipients([SSH_PUBLIC])))


@pytest.mark.parametrize("data", [b"\xff\xfe", b"AGE-SECRET-KEY-1GEHEIM", b"-----BEGIN OPENSSH PRIVATE KEY-----\nx"])
def test_a_wrong_identity_file_is_refused_without_quoting_it(data: bytes) -> None:
    with pytest.raises(AgeError, match="no identity file") as caught:
        age.identities(data)
    assert "GEHEIM" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_identity_file_without_an_identity_is_refused() -> None:
    with pytest.raises(AgeError, match="holds no identity"):
        age.identities(b"# only a comment\n")


@pytest.mark.skipif(shutil.which("age") is None, reason="the age command is not installed")
def test_the_age_command_opens_what_is_sealed_here(tmp_path: Path) -> None:
    identity = x25519.Identity.generate()
    (tmp_path / "sealed").write_bytes(age.seal(DATA, age.recipients([str(identity.to_public())])))
    (tmp_path / "identity").write_text(str(identity))
    command = ["age", "--decrypt", "-i", tmp_path / "identity", tmp_path / "sealed"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == DATA.reveal()
