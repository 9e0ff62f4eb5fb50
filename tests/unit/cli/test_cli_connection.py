"""Who is asked by whom, what refusals look like, and how the command ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from secretsd.cli.app import root
from tests.support.waiting import PATIENCE_SECS, free_port
from tests.unit.cli.conftest import Ctl, Spawn
from tests.unit.cli.fake_daemon import FakeDaemon


def test_the_options_may_stand_before_or_after_the_command(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.plant("note", "x")
    token = tmp_path / "token"
    token.write_text("a-token\n")
    options = ["--url", daemon.url, "--client", "admin", "--token-file", str(token)]
    for args in ([*options, "get", "note"], ["get", *options, "note"], ["get", "note", *options]):
        assert CliRunner().invoke(root, args).stdout == "x"
    for seen in daemon.seen:
        assert seen.headers["X-Jarvis-Client"] == "admin"
        assert seen.headers["Authorization"] == "Bearer a-token"


def test_a_token_that_is_gone_is_told_by_what_needs_it_and_in_nobody_elses_way(ctl: Ctl, tmp_path: Path) -> None:
    env = {"JARVIS_CLIENT_TOKEN_FILE": str(tmp_path / "lost")}
    refused = ctl("ls", env=env)
    assert refused.exit_code == 2
    assert f"--token-file, or the variable for it: {tmp_path / 'lost'} doesn't exist" in refused.stderr
    folders = ("--config-dir", str(tmp_path / "etc"), "--state-dir", str(tmp_path / "state"))
    for offline in (("init", "--no-bus", *folders), ("completion", "bash")):
        result = ctl(*offline, env=env)
        assert result.exit_code == 0, result.output


def test_an_option_beats_the_environment(daemon: FakeDaemon, ctl: Ctl, tmp_path: Path) -> None:
    daemon.plant("note", "x")
    token = tmp_path / "token"
    token.write_text("from-file")
    result = ctl(
        "get", "note", "--token-file", str(token), "--client", "other", env={"JARVIS_CLIENT_TOKEN": "from-env"}
    )
    assert result.exit_code == 0, result.output
    assert daemon.seen[0].headers["Authorization"] == "Bearer from-file"
    assert daemon.seen[0].headers["X-Jarvis-Client"] == "other"


def test_the_token_of_the_environment_is_used(daemon: FakeDaemon, ctl: Ctl) -> None:
    ctl("ls", env={"JARVIS_CLIENT_TOKEN": "from-env"})
    assert daemon.seen[0].headers["Authorization"] == "Bearer from-env"


def test_a_unix_socket_is_as_good_as_a_port(tmp_path: Path) -> None:
    with FakeDaemon(unix=tmp_path / "s.sock") as daemon:
        daemon.plant("note", "x")
        assert CliRunner().invoke(root, ["--url", daemon.url, "--client", "admin", "get", "note"]).stdout == "x"


def test_a_refusal_is_one_line_and_a_hint(daemon: FakeDaemon) -> None:
    result = CliRunner().invoke(root, ["--url", daemon.url, "ls"])
    assert result.exit_code == 1
    assert result.stdout == ""
    error, hint = result.stderr.splitlines()
    assert error == "error: Do something about missing-client."
    assert hint.startswith("hint: ")
    assert "--client" in hint


def test_a_wrong_token_shows_nowhere(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("pl4nted-token")
    with FakeDaemon(tokens={"admin": "another"}) as daemon:
        result = CliRunner().invoke(root, ["--url", daemon.url, "--client", "admin", "--token-file", str(token), "ls"])
    assert result.exit_code == 1
    assert "--token-file" in result.stderr
    assert "pl4nted" not in result.output


def test_an_unknown_name_brings_a_suggestion(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("postgres_password", "x")
    assert "did you mean postgres_password?" in ctl("get", "postgres_pasword").stderr


def test_a_name_that_may_not_be_listed_is_never_suggested(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.plant("postgres_password", "x")
    daemon.hidden.add("postgres_password")
    result = ctl("get", "postgres_pasword")
    assert result.exit_code == 1
    assert "postgres_password" not in result.output


@pytest.mark.parametrize(
    "args",
    [["get"], ["get", "-n"], ["get", "no spaces"], ["get", "../healthz"], ["nothing"], ["get", "a", "--version", "0"]],
)
def test_a_wrong_command_line_is_2_and_asks_nobody(daemon: FakeDaemon, ctl: Ctl, args: list[str]) -> None:
    assert ctl(*args).exit_code == 2
    assert daemon.seen == []


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["--url", "ftp://example", "ls"], 2),
        (["--url", "http://user:pl4nted@127.0.0.1", "ls"], 2),
        (["--token-file", "/nonexistent", "ls"], 2),
        (["rotate", "note", "--grace", "soon"], 2),
        (["get", "note", "--kid", "x"], 2),
    ],
)
def test_settings_that_make_no_sense_are_2(ctl: Ctl, args: list[str], status: int) -> None:
    result = ctl(*args)
    assert result.exit_code == status
    assert "pl4nted" not in result.output


def test_what_is_not_the_daemon_is_said_to_be_so(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.bus = {"unexpected": "yes"}
    daemon.plant("note", "x")
    result = ctl("status")
    assert result.exit_code == 3
    assert "isn't one of jarvis-secretsd" in result.stderr


def test_each_change_carries_a_key_of_its_own(daemon: FakeDaemon, ctl: Ctl) -> None:
    ctl("put", "note", stdin=b"1")
    ctl("put", "note", stdin=b"2")
    ctl("rotate", "note")
    ctl("restore", "note", "1")
    ctl("rm", "note", "--yes")
    changes = [seen for seen in daemon.seen if seen.method != "GET"]
    keys = {seen.headers["Idempotency-Key"] for seen in changes}
    assert len(changes) == len(keys) == 6


def test_a_change_of_unknown_outcome_is_asked_again_under_the_same_key(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.refusals["POST /secret"] = [(503, "outcome-unknown")]
    assert ctl("put", "note", stdin=b"x").exit_code == 0
    first, second = daemon.calls("POST")
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.body == second.body


def test_a_change_is_asked_again_once_and_no_more(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.refusals["POST /secret"] = [(503, "outcome-unknown")] * 3
    result = ctl("put", "note", stdin=b"x")
    assert result.exit_code == 1
    assert len(daemon.calls("POST")) == 2


def test_another_refusal_of_a_change_is_final(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.refusals["POST /secret"] = [(503, "audit-unavailable")]
    assert ctl("put", "note", stdin=b"x").exit_code == 1
    assert len(daemon.calls("POST")) == 1


def test_status_shows_one_screen(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.bus = {"url": "mqtt://127.0.0.1:1883", "topic_prefix": "jarvis/secretsd", "node": "host"}
    daemon.plant("later", "pl4nted", expires_at="2031-01-01T00:00:00.000Z")
    daemon.plant("sooner", "pl4nted", status="expiring", expires_at="2030-01-01T00:00:00.000Z")
    daemon.plant("never", "pl4nted")
    result = ctl("status")
    assert result.exit_code == 0
    shown = result.stdout
    for part in (daemon.url, "connected", "2 h", "jarvis/secretsd/checkpoint/host", "7 of epoch epoch-1"):
        assert part in shown
    assert shown.index("sooner") < shown.index("later")
    assert "pl4nted" not in shown
    answer = json.loads(ctl("status", "--json").stdout)
    assert answer["health"]["uptime_secs"] == 7384
    assert answer["vault_generation"] == "epoch-1:7"
    assert len(answer["secrets"]) == 3


def test_status_needs_no_client(daemon: FakeDaemon) -> None:
    result = CliRunner().invoke(root, ["--url", daemon.url, "status"])
    assert result.exit_code == 0
    assert "connected" in result.stdout


def test_status_of_a_daemon_that_cannot_serve_is_1(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.health |= {"status": "unavailable", "reason": "the audit log can't be written"}
    result = ctl("status")
    assert result.exit_code == 1
    assert "the audit log can't be written" in result.stderr


# The real process


def test_nobody_there_is_3(spawn: Spawn) -> None:
    process = spawn("ls", env={"JARVIS_SECRETS_URL": f"http://127.0.0.1:{free_port()}"})
    out, err = process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == 3
    assert out == b""
    assert err.startswith(b"error: ")
    assert b"Traceback" not in err


@pytest.mark.parametrize(("args", "status"), [(["ls"], 0), (["get", "missing"], 1), (["get", "--frobnicate"], 2)])
def test_the_process_ends_with_the_documented_status(spawn: Spawn, args: list[str], status: int) -> None:
    process = spawn(*args)
    _, err = process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == status
    assert b"Traceback" not in err


def test_an_interrupt_ends_it_quietly_with_130(daemon: FakeDaemon, spawn: Spawn) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        asked.set()
        go_on.wait(PATIENCE_SECS)

    daemon.on_request = hold
    process = spawn("ls")
    assert asked.wait(PATIENCE_SECS)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_SECS)
    go_on.set()
    assert process.returncode == 130
    assert err == b""


def test_a_reader_that_goes_away_ends_it_quietly(daemon: FakeDaemon, spawn: Spawn) -> None:
    for index in range(2000):
        daemon.plant(f"secret_{index:04}", "x")
    reading, writing = os.pipe()
    os.close(reading)
    process = spawn("ls", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == 141
    assert err == b""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(ctl: Ctl, shell: str) -> None:
    assert "_SECRETSCTL_COMPLETE" in ctl("completion", shell).stdout


def test_the_script_for_bash_is_bash(ctl: Ctl) -> None:
    script = ctl("completion", "bash").stdout_bytes
    assert subprocess.run(["bash", "-n"], input=script, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("secretsctl re", {"recovery", "restore", "restore-env"}),
        ("secretsctl get post", {"postgres_password"}),
        ("secretsctl audit ", {"prune", "verify"}),
    ],
)
def test_commands_and_names_complete(daemon: FakeDaemon, spawn: Spawn, words: str, expected: set[str]) -> None:
    daemon.plant("postgres_password", "x")
    daemon.plant("brave_api_key", "x")
    count = len(words.split()) - (0 if words.endswith(" ") else 1)
    asked = {"_SECRETSCTL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    out, err = spawn(env=asked).communicate(timeout=PATIENCE_SECS)
    assert {line.partition(",")[2] for line in out.decode().splitlines()} == expected, err


def test_completion_without_a_daemon_is_silent(spawn: Spawn) -> None:
    asked = {"_SECRETSCTL_COMPLETE": "bash_complete", "COMP_WORDS": "secretsctl get p", "COMP_CWORD": "2"}
    url = f"http://127.0.0.1:{free_port()}"
    out, err = spawn(env={**asked, "JARVIS_SECRETS_URL": url}).communicate(timeout=PATIENCE_SECS)
    assert (out.strip(), err) == (b"", b"")


def test_help_loads_nothing_heavy(spawn: Spawn) -> None:
    process = spawn("--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    out, err = process.communicate(timeout=PATIENCE_SECS)
    assert b"import-env" in out
    loaded = {line.rpartition(b"|")[2].strip().partition(b".")[0] for line in err.splitlines()}
    assert loaded.isdisjoint({b"aiohttp", b"rich", b"cryptography", b"paho", b"msgspec", b"asyncio"})
