"""audit verify: the log of a real chain, whole and damaged."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from secretsd_bus import Chain, SigningKey

from tests.unit.cli.conftest import Ctl

TIME = "2026-11-23T17:00:00.123Z"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Six lines: two in a compressed file, two in a rotated one, two in the active one."""
    key = SigningKey.generate()
    chain = Chain(log_id="log", node="host", key=key)
    data = {"client": "admin", "name": "note", "version": 1}
    lines = [chain.append("secret.read", "note", data, TIME).raw + b"\n" for _ in range(6)]
    path = tmp_path / "audit.jsonl"
    path.with_name("audit.jsonl.2.gz").write_bytes(gzip.compress(b"".join(lines[:2])))
    path.with_name("audit.jsonl.1").write_bytes(b"".join(lines[2:4]))
    path.write_bytes(b"".join(lines[4:]))
    path.with_name("audit.sign.pub").write_bytes(key.public.to_pem())
    return path


@pytest.fixture
def config(log: Path) -> Path:
    path = log.with_name("config.toml")
    path.write_text(f'[paths]\naudit_path = "{log}"\n')
    return path


def test_the_configured_log_is_verified_with_its_rotated_files(ctl: Ctl, config: Path) -> None:
    result = ctl("audit", "verify", "--config", str(config))
    assert result.exit_code == 0, result.output
    assert "6 lines verified, sequence 1 to 6" in result.stdout
    report = json.loads(ctl("audit", "verify", "--config", str(config), "--json").stdout)
    assert (report["ok"], report["lines"], report["starts_at_genesis"]) == (True, 6, True)


def test_files_can_be_named(ctl: Ctl, log: Path) -> None:
    pubkey = log.with_name("audit.sign.pub")
    result = ctl("audit", "verify", str(log), str(log.with_name("audit.jsonl.1")), "--pubkey", str(pubkey))
    assert result.exit_code == 0, result.output
    assert "sequence 3 to 6" in result.stdout
    assert "lines before 3 are not in these files" in result.stdout


def test_the_first_bad_line_is_named(ctl: Ctl, config: Path, log: Path) -> None:
    rotated = log.with_name("audit.jsonl.1")
    rotated.write_bytes(rotated.read_bytes().replace(b'"admin"', b'"nobody"', 1))
    result = ctl("audit", "verify", "--config", str(config))
    assert result.exit_code == 1
    assert f"{rotated}, line 1: bad-signature" in result.stderr
    answer = json.loads(ctl("audit", "verify", "--config", str(config), "--json").stdout)
    assert (answer["ok"], answer["file"], answer["line"]) == (False, str(rotated), 1)


@pytest.mark.parametrize(("left", "line"), [(slice(-1), 2), (slice(9), 1)])
def test_a_last_line_that_was_cut_off_is_a_bad_line(ctl: Ctl, config: Path, log: Path, left: slice, line: int) -> None:
    log.write_bytes(log.read_bytes()[left])
    result = ctl("audit", "verify", "--config", str(config))
    assert result.exit_code == 1
    assert f"{log}, line {line}: unfinished" in result.stderr
    answer = json.loads(ctl("audit", "verify", "--config", str(config), "--json").stdout)
    assert (answer["ok"], answer["file"], answer["line"]) == (False, str(log), line)


def test_a_missing_file_is_a_gap(ctl: Ctl, config: Path, log: Path) -> None:
    log.with_name("audit.jsonl.1").unlink()
    assert ctl("audit", "verify", "--config", str(config)).exit_code == 1


def test_another_key_verifies_nothing(ctl: Ctl, config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(SigningKey.generate().public.to_pem())
    result = ctl("audit", "verify", "--config", str(config), "--pubkey", str(other))
    assert result.exit_code == 1
    assert "unknown-key" in result.stderr


@pytest.mark.parametrize("missing", ["config.toml", "audit.sign.pub"])
def test_what_is_missing_is_named(ctl: Ctl, config: Path, missing: str) -> None:
    config.with_name(missing).unlink()
    result = ctl("audit", "verify", "--config", str(config))
    assert result.exit_code == 1
    assert missing in result.stderr


def test_what_is_no_key_is_refused(ctl: Ctl, config: Path) -> None:
    result = ctl("audit", "verify", "--config", str(config), "--pubkey", str(config))
    assert result.exit_code == 1
    assert "not a PEM public key" in result.stderr


def test_no_log_at_all_is_a_failure(ctl: Ctl, config: Path, log: Path) -> None:
    for path in log.parent.glob("audit.jsonl*"):
        path.unlink()
    assert ctl("audit", "verify", "--config", str(config)).exit_code == 1
