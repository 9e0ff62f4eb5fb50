"""What a start says of files of the state that are open to others."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.daemon import modes
from secretsd.daemon.firststart import StateFiles, create_state
from tests.unit.support.core import configured


@pytest.fixture
def state(tmp_path: Path) -> StateFiles:
    tmp_path.chmod(0o700)
    config = configured(tmp_path)
    create_state(config, None)
    return StateFiles(config)


def test_what_a_first_start_makes_is_closed(state: StateFiles) -> None:
    assert modes.warnings(state) == []


def test_a_log_that_logrotate_made_is_as_it_should_be(state: StateFiles) -> None:
    state.audit.chmod(0o640)
    assert modes.warnings(state) == []


@pytest.mark.parametrize(
    ("name", "mode", "fix"),
    [
        (".", 0o777, "chmod 700"),
        (".", 0o750, "chmod 700"),
        ("audit.jsonl", 0o644, "chmod go-wx,o-r"),
        ("audit.jsonl.1", 0o644, "chmod go-wx,o-r"),
        ("audit.sign.pub", 0o666, "chmod 644"),
        ("vault.json.bus", 0o644, "chmod 600"),
    ],
)
def test_what_others_may_use_is_told_with_its_mode_and_the_way_to_close_it(
    state: StateFiles, name: str, mode: int, fix: str
) -> None:
    path = state.vault.parent / name
    if not path.exists():
        path.touch()
    path.chmod(mode)
    (said,) = modes.warnings(state)
    assert f"{path} has mode {mode:04o}" in said
    assert f"{fix} {path}" in said
