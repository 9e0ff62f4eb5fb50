"""Mosquitto's password file, made without mosquitto_passwd and as it would make it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from secretsd.cli.mosquitto.passwords import hashed, matches, new_password, read, written


def test_a_hash_is_of_its_password_and_no_two_are_alike() -> None:
    assert matches(hashed("secret"), "secret")
    assert not matches(hashed("secret"), "Secret")
    assert hashed("secret") != hashed("secret")
    assert hashed("secret", salt=bytes(range(12))).startswith("$7$101$AAECAwQFBgcICQoL$")


@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="mosquitto_passwd isn't installed")
def test_what_mosquitto_passwd_made_is_recognised(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text("a:one\nb:t\u00fcr\n")
    subprocess.run(["mosquitto_passwd", "-U", str(file)], check=True, capture_output=True)
    stored = read(file.read_text())
    assert matches(stored["a"], "one")
    assert matches(stored["b"], "t\u00fcr")
    assert not matches(stored["a"], "two")


@pytest.mark.parametrize("stored", ["", "plain", "$6$salt$hash", "$7$0$AAAA$AAAA", "$7$101$A$A", "$7$101$$"])
def test_what_is_no_such_hash_matches_nothing(stored: str) -> None:
    assert not matches(stored, "plain")


def test_other_users_lines_are_kept() -> None:
    text = written("# mine\nzigbee:$7$x\nbackend:old\n", {"backend": "new", "secretsd": "s"})
    assert text == "# mine\nzigbee:$7$x\nbackend:new\nsecretsd:s\n"
    assert written(text, {"backend": "new", "secretsd": "s"}) == text


def test_passwords_are_long_and_random() -> None:
    assert new_password() != new_password()
    assert len(new_password()) >= 43
