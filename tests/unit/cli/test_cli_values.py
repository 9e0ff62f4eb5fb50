"""get and put: values go in and out whole, and show nowhere else."""

from __future__ import annotations

import base64
import contextlib
import json
import stat
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Ctl, Spawn, Terminal
from tests.unit.cli.fake_daemon import FakeDaemon, Seen

VALUE = "pl4nted [red]value[/red] \N{SNOWMAN}"


def test_get_prints_the_value_and_nothing_else(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("brave_api_key", VALUE)
    assert ctl("get", "brave_api_key").stdout_bytes == VALUE.encode()


def test_get_prints_the_bytes_that_base64_stands_for(daemon: FakeDaemon, ctl: Ctl) -> None:
    data = bytes(range(256))
    daemon.plant("blob", base64.b64encode(data).decode(), encoding="base64")
    assert ctl("get", "blob").stdout_bytes == data


@pytest.mark.parametrize(
    ("options", "expected"), [(["--version", "previous"], "old"), (["--version", "1"], "old"), ([], "new")]
)
def test_get_gives_the_version_that_is_asked_for(
    daemon: FakeDaemon, ctl: Ctl, options: list[str], expected: str
) -> None:
    daemon.plant("db_password", "old")
    daemon.plant("db_password", "new")
    assert ctl("get", "db_password", *options).stdout == expected


def test_get_gives_the_version_of_a_kid(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("db_password", "old")
    daemon.plant("db_password", "new")
    assert ctl("get", "db_password", "--kid", daemon.kid("db_password", 1)).stdout == "old"


def test_get_writes_a_private_file_whatever_was_there(daemon: FakeDaemon, ctl: Ctl, tmp_path: Path) -> None:
    daemon.plant("brave_api_key", VALUE)
    file = tmp_path / "key"
    file.write_text("a longer content than the value, readable by all")
    file.chmod(0o644)
    result = ctl("get", "brave_api_key", "-o", str(file))
    assert (result.exit_code, result.output) == (0, "")
    assert file.read_text() == VALUE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_get_never_replaces_what_is_no_ordinary_file(daemon: FakeDaemon, ctl: Ctl, tmp_path: Path) -> None:
    daemon.plant("brave_api_key", VALUE)
    result = ctl("get", "brave_api_key", "-o", "/dev/null")
    assert result.exit_code == 1
    assert Path("/dev/null").is_char_device()


def test_get_as_json_is_the_daemons_answer(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("brave_api_key", VALUE)
    answer = json.loads(ctl("get", "--json", "brave_api_key").stdout)
    assert (answer["value"], answer["encoding"], answer["version"]) == (VALUE, "utf-8", 1)


def test_put_creates_what_is_not_there(daemon: FakeDaemon, ctl: Ctl) -> None:
    result = ctl("put", "brave_api_key", stdin=f"{VALUE}\n".encode())
    assert result.exit_code == 0
    assert result.stdout.startswith("created brave_api_key: version 1")
    assert daemon.value("brave_api_key") == VALUE


def test_put_gives_a_new_version_to_what_is_there(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("brave_api_key", "old")
    result = ctl("put", "brave_api_key", "--grace", "1h", "--reason", "renewed", stdin=VALUE.encode())
    assert result.stdout.startswith("updated brave_api_key: version 2")
    assert daemon.value("brave_api_key") == VALUE
    assert daemon.calls("PUT")[0].body == {"value": VALUE, "grace_period": "1h", "reason": "renewed"}


@pytest.mark.parametrize(
    ("given", "options", "kept"),
    [
        (b"value\n", [], "value"),
        (b"value\r\n", [], "value"),
        (b"value\n\n", [], "value\n"),
        (b"value\n", ["--raw"], "value\n"),
        (b" value ", [], " value "),
    ],
)
def test_put_takes_one_newline_off_unless_raw(
    daemon: FakeDaemon, ctl: Ctl, given: bytes, options: list[str], kept: str
) -> None:
    assert ctl("put", "note", *options, stdin=given).exit_code == 0
    assert daemon.value("note") == kept


def test_put_sends_bytes_that_are_no_text_as_base64(daemon: FakeDaemon, ctl: Ctl) -> None:
    data = b"\xff\x00\xfe"
    assert ctl("put", "blob", stdin=data).exit_code == 0
    assert daemon.secrets["blob"].values[1] == (base64.b64encode(data).decode(), "base64")
    assert ctl("get", "blob").stdout_bytes == data


def test_put_reads_a_file(daemon: FakeDaemon, ctl: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text(VALUE + "\n")
    assert ctl("put", "brave_api_key", "--file", str(file)).exit_code == 0
    assert daemon.value("brave_api_key") == VALUE


def test_put_takes_values_of_up_to_64_kib(daemon: FakeDaemon, ctl: Ctl) -> None:
    largest = b"x" * 65_536
    assert ctl("put", "large", stdin=largest + b"\n").exit_code == 0
    assert len(daemon.value("large")) == 65_536
    refused = ctl("put", "larger", stdin=largest + b"y")
    assert refused.exit_code == 2
    assert "64 KiB" in refused.stderr


def test_put_refuses_an_empty_value(daemon: FakeDaemon, ctl: Ctl) -> None:
    assert ctl("put", "note", stdin=b"\n").exit_code == 2
    assert daemon.secrets == {}


@pytest.mark.parametrize("args", [["put", "note", VALUE], ["put", "note", f"--value={VALUE}"], ["put", VALUE]])
def test_put_refuses_a_value_on_the_command_line_without_repeating_it(
    daemon: FakeDaemon, ctl: Ctl, args: list[str]
) -> None:
    result = ctl(*args, stdin=b"other")
    assert result.exit_code == 2
    assert "pl4nted" not in result.output
    assert daemon.seen == []


def test_put_create_leaves_what_exists_alone(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("note", "old")
    assert ctl("put", "note", "--create", stdin=b"new").exit_code == 1
    assert daemon.value("note") == "old"


def test_put_replace_makes_nothing_new(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("note", "old")
    result = ctl("put", "notes", "--replace", stdin=b"new")
    assert result.exit_code == 1
    assert "did you mean note?" in result.stderr
    assert list(daemon.secrets) == ["note"]


def test_put_if_kid_replaces_only_the_version_it_names(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("note", "old")
    kid = daemon.kid("note")
    assert ctl("put", "note", "--if-kid", kid, stdin=b"new").exit_code == 0
    assert ctl("put", "note", "--if-kid", kid, stdin=b"newer").exit_code == 1
    assert daemon.value("note") == "new"


def test_put_generate_sends_no_value(daemon: FakeDaemon, ctl: Ctl) -> None:
    result = ctl("put", "db_password", "--generate", "--type", "password", "--rotation-period", "30d")
    assert result.exit_code == 0
    body = daemon.calls("POST")[0].body
    assert body == {"name": "db_password", "type": "password", "rotation_period": "30d"}


def test_put_generate_never_touches_what_exists(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("db_password", "old")
    result = ctl("put", "db_password", "--generate")
    assert result.exit_code == 1
    assert "secretsctl rotate" in result.stderr
    assert daemon.value("db_password") == "old"


def test_put_asks_a_person_twice_without_echo(daemon: FakeDaemon, terminal: Terminal) -> None:
    status, shown = terminal("put", "note", typed=[("Value of note: ", "typed-value"), ("Once more: ", "typed-value")])
    assert status == 0, shown
    assert daemon.value("note") == "typed-value"
    assert "typed-value" not in shown


def test_get_on_a_terminal_ends_the_line(daemon: FakeDaemon, terminal: Terminal) -> None:
    daemon.plant("note", "value")
    assert terminal("get", "note") == (0, "value\r\n")


def test_get_sends_no_bytes_to_a_terminal(daemon: FakeDaemon, terminal: Terminal) -> None:
    daemon.plant("blob", base64.b64encode(b"\x1b]0;\xff").decode(), encoding="base64")
    status, shown = terminal("get", "blob")
    assert status == 1
    assert "isn't text" in shown
    assert "\x1b]0" not in shown


def test_a_value_is_in_neither_the_command_line_nor_the_environment(daemon: FakeDaemon, spawn: Spawn) -> None:
    looked: list[bytes] = []

    def look(seen: Seen) -> None:
        proc = Path(f"/proc/{process.pid}")
        looked.append((proc / "cmdline").read_bytes())
        with contextlib.suppress(PermissionError):  # only root may look into it
            looked.append((proc / "environ").read_bytes())

    daemon.on_request = look
    process = spawn("put", "note")
    out, err = process.communicate(VALUE.encode(), timeout=30)
    assert process.returncode == 0, err
    assert daemon.value("note") == VALUE
    assert looked
    assert all(b"pl4nted" not in one for one in [*looked, out, err])
