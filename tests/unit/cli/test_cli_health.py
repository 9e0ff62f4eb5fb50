"""health: one line and an exit status, for whoever restarts what doesn't answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from secretsd.cli.app import root
from tests.support.waiting import free_port
from tests.unit.cli.conftest import Ctl
from tests.unit.cli.fake_daemon import FakeDaemon


def test_it_asks_for_the_health_and_for_nothing_else(daemon: FakeDaemon, ctl: Ctl) -> None:
    result = ctl("health")
    assert (result.exit_code, result.stdout) == (0, f"ok, bus {daemon.health['bus']}\n")
    assert [request.path for request in daemon.seen] in ([], ["/healthz"])


def test_a_daemon_that_cannot_serve_is_status_1_with_its_reason(daemon: FakeDaemon, ctl: Ctl) -> None:
    daemon.health |= {"status": "unavailable", "reason": "the audit log can't be written"}
    result = ctl("health")
    assert result.exit_code == 1
    assert "the audit log can't be written" in result.stderr


@pytest.mark.parametrize("shape", ["tcp", "unix"])
def test_it_asks_where_the_configuration_says_that_the_daemon_listens(shape: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    with FakeDaemon(unix=tmp_path / "s.sock" if shape == "unix" else None) as daemon:
        if shape == "unix":
            server = f'bind_addr = "127.0.0.1:{free_port()}"\nallow_unix_socket = true\nunix_socket_path = "s.sock"\n'
        else:
            server = f'bind_addr = "{daemon.url.removeprefix("http://")}"\n'
        config.write_text(f"[server]\n{server}")
        assert CliRunner().invoke(root, ["health", "--config", str(config)]).exit_code == 0


def test_nobody_there_is_status_3(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'server.bind_addr = "127.0.0.1:{free_port()}"')
    assert CliRunner().invoke(root, ["health", "--config", str(config)]).exit_code == 3
