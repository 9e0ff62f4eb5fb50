from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import BusSettings

FILE = Path("/x")


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("mqtt://127.0.0.1", "127.0.0.1", 1883, False),
        ("mqtt://broker:1884/", "broker", 1884, False),
        ("mqtts://broker.home", "broker.home", 8883, True),
        ("mqtts://[::1]:443", "::1", 443, True),
    ],
)
def test_a_url_says_where_the_broker_is(url: str, host: str, port: int, tls: bool) -> None:
    settings = BusSettings(url)
    assert (settings.host, settings.port, settings.tls) == (host, port, tls)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:1883", "tcp://a", "http://a", "mqtt://", "mqtt://a:0", "mqtt://a:99999", "mqtt://a:x", "mqtt://a/b",
     "mqtt://a?x=1", "mqtt://a#b", "mqtt://[::1"],
)  # fmt: skip
def test_another_url_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(ValueError, match="mqtt://HOST:PORT"):
        BusSettings(url)


@pytest.mark.parametrize("url", ["mqtt://me:hunter2@broker", "mqtt://hunter2@broker:1883", "http://me:hunter2@a"])
def test_credentials_in_the_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="password_file") as refusal:
        BusSettings(url)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"topic_prefix": "a/#"}, "prefix"),
        ({"password_file": FILE}, "username"),
        ({"cert_file": FILE, "url": "mqtts://a"}, "key_file"),
        ({"key_file": FILE, "url": "mqtts://a"}, "cert_file"),
        ({"ca_file": FILE}, "mqtts"),
        ({"cert_file": FILE, "key_file": FILE}, "mqtts"),
    ],
    ids=str,
)
def test_settings_that_would_not_do_what_they_say_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BusSettings(**({"url": "mqtt://a"} | wrong))


@pytest.mark.parametrize(("content", "password"), [("a b", "a b"), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x\n")])
def test_a_password_files_newline_is_not_part_of_the_password(tmp_path: Path, content: str, password: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content.encode())
    assert BusSettings("mqtt://a", username="me", password_file=file).read_password() == password
    assert BusSettings("mqtt://a", username="me").read_password() is None


def test_a_pipe_in_the_place_of_the_password_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe that nobody writes to"):
        BusSettings("mqtt://a", username="me", password_file=tmp_path / "pipe").read_password()


def test_a_password_may_come_from_a_pipe_that_somebody_writes_to() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"secret\n")
    os.close(writing)
    assert BusSettings("mqtt://a", username="me", password_file=Path(f"/dev/fd/{reading}")).read_password() == "secret"
    os.close(reading)
