"""Standard input, output and error that are closed, full, or of another encoding than UTF-8."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.unit.cli.conftest import COMMAND, Ctl, Spawn
from tests.unit.cli.fake_daemon import FakeDaemon

LATIN = {"PYTHONIOENCODING": "latin-1"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def _run(spawn: Spawn, line: str, env: dict[str, str] | None = None) -> tuple[int, bytes, str]:
    process = spawn(
        program=["/bin/bash", "-c", f'secretsctl() {{ {shlex.quote(str(COMMAND))} "$@"; }}; {line}'], env=env
    )
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err.decode()


@pytest.mark.parametrize("redirected", [">/dev/full", ">&-"])
@pytest.mark.parametrize(
    "command", ["ls", "--json ls", "get api_key", "status", "health", "--help", "ls --help", "--version"]
)
def test_a_result_that_cannot_be_written_is_an_error_of_two_lines(
    spawn: Spawn, daemon: FakeDaemon, command: str, redirected: str
) -> None:
    daemon.plant("api_key", "v")
    status, _, err = _run(spawn, f"secretsctl {command} {redirected}")
    assert (status, err.count("\n")) == (1, 2), err
    assert err.startswith("error: the result can't be written to standard output: ")


def test_closed_standard_input_is_an_empty_one(spawn: Spawn, daemon: FakeDaemon) -> None:
    daemon.plant("api_key", "v")
    status, _, err = _run(spawn, "secretsctl put api_key <&-")
    assert (status, "the value is empty" in err) == (2, True), err
    status, _, err = _run(spawn, "secretsctl rm api_key <&-")
    assert (status, "give --yes" in err) == (2, True), err


def test_closed_standard_error_costs_the_result_nothing(spawn: Spawn, daemon: FakeDaemon) -> None:
    daemon.plant("api_key", "v")
    assert _run(spawn, "secretsctl get api_key 2>&-") == (0, b"v", "")
    assert _run(spawn, "secretsctl get nope 2>&-") == (1, b"", "")


def test_a_reader_that_goes_away_from_the_help_is_no_error(spawn: Spawn) -> None:
    assert _run(spawn, "{ sleep 0.2; secretsctl --help; } | true; exit ${PIPESTATUS[0]}") == (141, b"", "")


@pytest.mark.parametrize("locale", [LATIN, ASCII])
def test_json_is_utf_8_whatever_the_locale(spawn: Spawn, daemon: FakeDaemon, locale: dict[str, str]) -> None:
    daemon.plant("api_key", "grün€")
    status, out, err = _run(spawn, "secretsctl --json get api_key", env=locale)
    assert (status, json.loads(out.decode())["value"], err) == (0, "grün€", "")


@pytest.mark.parametrize("locale", [LATIN, ASCII])
def test_what_the_locale_cannot_say_is_escaped(spawn: Spawn, locale: dict[str, str]) -> None:
    program = "from secretsd.cli import streams, output; streams.prepare(); output.console().print('\\u201ca\\u201d')"
    status, out, err = _run(
        spawn, f"{shlex.quote(str(COMMAND.parent / 'python'))} -c {shlex.quote(program)}", env=locale
    )
    assert (status, out, err) == (0, b"\\u201ca\\u201d\n", "")


def test_a_file_name_that_is_not_utf_8_can_be_shown_as_json(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.plant("api_key", "value-to-be-found")
    (tmp_path / os.fsdecode(b"n\xff")).write_text("value-to-be-found")
    result = ctl("--json", "scan", str(tmp_path))
    assert (result.exit_code, json.loads(result.stdout)["findings"][0]["secret"]) == (1, "api_key")
