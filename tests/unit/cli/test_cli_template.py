"""secretsctl template on the command line: exit statuses, its refusals, and standard output."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Ctl
from tests.unit.cli.fake_daemon import FakeDaemon

VALUE = "hunter2-the-value"


@pytest.fixture(autouse=True)
def _secret(daemon: FakeDaemon) -> None:
    daemon.plant("token", VALUE)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "conf.j2"
    path.write_text("token {{ secret('token') }}\n")
    return path


def test_without_a_target_it_is_printed(ctl: Ctl, source: Path) -> None:
    result = ctl("template", str(source))
    assert (result.exit_code, result.stdout) == (0, f"token {VALUE}\n")


def test_a_file_is_made_once(ctl: Ctl, source: Path, tmp_path: Path) -> None:
    result = ctl("template", str(source), "--to", str(tmp_path / "conf"), "--once", "--mode", "0640")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "conf").read_text() == f"token {VALUE}\n"
    assert (tmp_path / "conf").stat().st_mode & 0o777 == 0o640
    assert VALUE not in result.output


@pytest.mark.parametrize(
    ("text", "options", "status"),
    [
        ("{{ secret('token') }}", ["--check", "false"], 1),
        ("{{ secret('token') }}", ["--check", "false {}"], 1),
        ("{{ secret('token') }}", ["--reload", "false"], 1),
        ("{{ secret('token') }}", ["--check", "no-such-command"], 127),
        ("{{ secret('token') }}", ["--check", "/etc/passwd"], 126),
        ("{{ secret('token') }}", ["--mode", "0999"], 125),
        ("{{ secret('token') }}", ["--settle", "never"], 125),
        ("{{ secret('token') }}", ["--reload", "reload {}"], 125),
        ("{{ secret('token' }}", [], 125),
        ("{{ secret('tokken') }}", [], 125),
        ("{{ secret('token') | from_json }}", [], 125),
    ],
)
def test_the_status_tells_what_went_wrong(ctl: Ctl, tmp_path: Path, text: str, options: list[str], status: int) -> None:
    source, target = tmp_path / "conf.j2", tmp_path / "conf"
    source.write_text(text)
    result = ctl("template", str(source), "--to", str(target), "--once", *options)
    assert result.exit_code == status, result.stderr
    assert VALUE not in result.output
    assert target.exists() == ("--reload" in options and status == 1)
    assert ("tokken" not in text) or "did you mean token?" in result.stderr


def test_a_template_is_not_made_into_itself(ctl: Ctl, source: Path, tmp_path: Path) -> None:
    text = source.read_text()
    (tmp_path / "link.j2").symlink_to(source)
    (tmp_path / "folder").symlink_to(tmp_path)
    listed = tmp_path / "list.toml"
    listed.write_text('[[template]]\nfile = "conf.j2"\nto = "folder/conf.j2"\n')
    for given in (
        [source, "--to", source],
        [tmp_path / "link.j2", "--to", source],
        [source, "--to", tmp_path / "folder" / "conf.j2"],
        ["--config", listed],
    ):
        result = ctl("template", *map(str, given), "--once")
        assert result.exit_code == 125
        assert "is the template itself" in result.stderr
        assert source.read_text() == text


def test_a_slip_in_a_list_is_named_with_its_place(ctl: Ctl, source: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.toml"
    listed.write_text('[[template]]\nfile = "conf.j2"\nto = "conf"\nmodes = "0600"\n')
    result = ctl("template", "--config", str(listed), "--once")
    assert result.exit_code == 125
    assert 'list.toml: template 1: unknown key "modes"; did you mean mode? allowed: file, to, mode' in result.stderr
    listed.write_text('settle = 5\n[[template]]\nfile = "conf.j2"\nto = "conf"\n')
    result = ctl("template", "--config", str(listed), "--once")
    assert "list.toml: settle: found an integer; allowed: a string" in result.stderr
    listed.write_text('[[template]]\nfile = "conf.j2"\nto = "conf"\nshell = "yes"\n')
    result = ctl("template", "--config", str(listed), "--once")
    assert "list.toml: template 1: shell: found a string; allowed: true or false" in result.stderr
    listed.write_text('[[template]]\nfile = "conf.j2"\nto = "conf"\n[[template]]\nfile = "conf.j2"\nto = "conf"\n')
    assert "made by another one already" in ctl("template", "--config", str(listed), "--once").stderr


def test_options_that_do_not_go_together_are_refused(ctl: Ctl, source: Path) -> None:
    assert ctl("template").exit_code == 125
    assert ctl("template", str(source), "--once").exit_code == 125
    assert ctl("template", str(source), "--config", str(source)).exit_code == 125
