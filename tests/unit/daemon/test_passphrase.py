from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import passphrase
from secretsd.errors import KeyFileError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "secretsd-passphrase"
    file.write_bytes(b"correct horse\n")
    return file


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"a b", b"a b"), (b"a b\n", b"a b"), (b"a b\r\n", b"a b"), (b"a b\n\n", b"a b\n"), (b" a\xff ", b" a\xff ")],
)
def test_one_trailing_newline_is_taken_off_and_nothing_else(file: Path, content: bytes, value: bytes) -> None:
    file.write_bytes(content)
    assert passphrase.provided({"SECRETSD_PASSPHRASE_FILE": str(file)}) == Sensitive(value)


def test_a_systemd_credential_is_found(file: Path) -> None:
    assert passphrase.provided({"CREDENTIALS_DIRECTORY": str(file.parent)}) == Sensitive(b"correct horse")


def test_the_named_file_comes_before_the_credential(file: Path, tmp_path: Path) -> None:
    named = tmp_path / "named"
    named.write_bytes(b"other")
    environ = {"CREDENTIALS_DIRECTORY": str(file.parent), "SECRETSD_PASSPHRASE_FILE": str(named)}
    assert passphrase.provided(environ) == Sensitive(b"other")


def test_without_either_there_is_none(tmp_path: Path) -> None:
    assert passphrase.provided({}) is None
    assert passphrase.provided({"CREDENTIALS_DIRECTORY": str(tmp_path)}) is None


def test_a_named_file_that_is_missing_or_empty_is_refused_and_named(file: Path) -> None:
    environ = {"SECRETSD_PASSPHRASE_FILE": str(file)}
    file.write_bytes(b"\n")
    with pytest.raises(KeyFileError, match="is empty"):
        passphrase.provided(environ)
    file.unlink()
    with pytest.raises(KeyFileError, match=f"names {file}, which can't be read: No such file"):
        passphrase.provided(environ)


def test_a_pipe_gives_it_and_one_that_nobody_writes_to_is_not_waited_for(file: Path) -> None:
    environ = {"SECRETSD_PASSPHRASE_FILE": str(file)}
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    with pytest.raises(KeyFileError, match="is empty"):
        passphrase.provided(environ)
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe\n")
    os.close(writing)
    assert passphrase.provided({"SECRETSD_PASSPHRASE_FILE": f"/dev/fd/{reading}"}) == Sensitive(b"from a pipe")
    os.close(reading)


def test_nobody_is_asked_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("typed\n"))
    assert passphrase.asked(Path("master.key")) is None


def test_on_a_terminal_it_is_asked_for_without_an_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt: "typed" if "master.key" in prompt else "")
    assert passphrase.asked(Path("master.key")) == Sensitive(b"typed")
