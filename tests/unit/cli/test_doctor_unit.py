"""doctor under systemd: the unit's sandbox, and whether the daemon's user may use its files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from secretsd.cli.checks import unit
from secretsd.cli.checks.unit import Confinement, Need, blocking, confinement, judge_need, judge_sandbox
from tests.unit.cli.installation import Installation

CONFINED = Confinement(
    uid=996, no_new_privileges=True, capabilities=0, filtered=True, system_is_writable=False
)  # fmt: skip
STATUS = "Name:\tx\nUid:\t996\t996\t996\t996\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
MOUNTS = "1 0 0:1 / / rw,relatime - overlay overlay rw\n2 1 0:1 / / ro,nosuid - overlay overlay rw\n"
SHIPPED = Path(__file__).parents[3] / "deploy" / "systemd" / "jarvis-secretsd.service"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path).start_first()


def test_the_kernels_words_are_understood() -> None:
    assert confinement(STATUS, MOUNTS) == CONFINED
    assert confinement(STATUS, MOUNTS.splitlines()[0]).system_is_writable


def test_a_confined_daemon_is_well() -> None:
    assert judge_sandbox(unit.UNIT, CONFINED).status == "ok"


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (replace(CONFINED, uid=0), "User=jarvis-secretsd"),
        (replace(CONFINED, no_new_privileges=False), "NoNewPrivileges=yes"),
        (replace(CONFINED, capabilities=1), "CapabilityBoundingSet="),
        (replace(CONFINED, filtered=False), "SystemCallFilter=@system-service"),
        (replace(CONFINED, system_is_writable=True), "ProtectSystem=strict"),
    ],
)
def test_each_lack_is_a_warning_with_the_line_that_mends_it(found: Confinement, line: str) -> None:
    finding = judge_sandbox("old.service", found)
    assert finding.status == "warning"
    assert finding.fixes[0].startswith("systemctl edit old.service")
    assert line in finding.fixes[0]
    assert f"\n{line}" in SHIPPED.read_text()


def test_without_a_process_there_is_no_sandbox_to_see(installation: Installation) -> None:
    assert installation.look("sandbox").status == "skipped"


# Files that the daemon's user can't use: told apart by modes alone, so that it can be seen from any user


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    (tmp_path / "etc").mkdir(mode=0o755)
    path = tmp_path / "etc" / "policy.yaml"
    path.touch()
    return path


def blocked(path: Path, top: Path, *, write: bool = False, uid: int = 4711, groups: Sequence[int] = ()) -> Path | None:
    """Return what blocks; folders above the test's own are taken for open."""
    found = blocking(Need(path, write), uid, groups)
    return found if found is None or found.is_relative_to(top) else None


def test_a_file_is_blocked_by_its_mode_or_by_a_closed_folder(file: Path, tmp_path: Path, open_above: None) -> None:
    file.chmod(0o400)
    assert blocked(file, tmp_path) == file
    file.chmod(0o444)
    assert blocked(file, tmp_path) is None
    assert blocked(file, tmp_path, write=True) == file
    file.parent.chmod(0o700)
    assert blocked(file, tmp_path) == file.parent


def test_the_group_counts_before_others_and_root_before_all(file: Path, tmp_path: Path, open_above: None) -> None:
    file.chmod(0o046)
    assert blocked(file, tmp_path, groups=[file.stat().st_gid]) is None
    assert blocked(file, tmp_path, groups=[file.stat().st_gid], write=True) == file
    assert blocked(file, tmp_path, write=True) is None
    assert blocking(Need(file, write=True), 0, ()) is None


def test_what_permissions_sh_leaves_is_told_with_its_fix(file: Path) -> None:
    state = judge_need(Need(file, write=True), 4711, file)
    assert (state.status, state.fixes) == ("failure", (f"chown 4711: {file}",))
    folder = judge_need(Need(file, write=True), 4711, file.parent)
    assert folder.fixes == (f"chown -R 4711: {file.parent}",)
    settings = judge_need(Need(file, credential="secretsd-policy"), 4711, file.parent)
    assert settings.status == "failure"
    assert f"LoadCredential=secretsd-policy:{file}" in settings.fixes[0]
    above = judge_need(Need(file), 4711, file.parent.parent)
    assert above.fixes == (f"chmod o+x {file.parent.parent}",)


def test_the_whole_installation_is_looked_at(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, open_above: None
) -> None:
    monkeypatch.setattr(unit, "unit_text", lambda: "User=4711\n")
    finding = installation.look("reach")
    assert finding.status == "failure"
    assert "4711 can't read" in finding.found
    monkeypatch.setattr(unit, "unit_text", lambda: f"User={os.geteuid()}\n")
    assert installation.look("reach").status == "ok"


def test_what_is_handed_over_need_not_be_readable(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, open_above: None
) -> None:
    text = "User=4711\nLoadCredential=secretsd-config:/c\nLoadCredential=secretsd-policy:/p\n"
    monkeypatch.setattr(unit, "unit_text", lambda: text)
    assert "config.toml" not in installation.look("reach").found
    assert "policy.yaml" not in installation.look("reach").found


def test_without_unit_and_process_nobody_knows_the_user(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, "unit_text", lambda: "")
    assert installation.look("reach").status == "skipped"


def test_the_shipped_units_lines_are_understood() -> None:
    loaded = unit.named_credentials(SHIPPED.read_text())
    assert loaded == {
        "secretsd-config": "/etc/jarvis-secretsd/config.toml",
        "secretsd-policy": "/etc/jarvis-secretsd/policy.yaml",
    }


@pytest.fixture
def open_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders above the test's own are closed to other users by pytest: take them for open."""
    allows = unit._allows

    def patched(status: os.stat_result, uid: int, groups: Sequence[int], bits: int) -> bool:
        above = {(one.stat().st_dev, one.stat().st_ino) for one in tmp_path.parents}
        return (status.st_dev, status.st_ino) in above or allows(status, uid, groups, bits)

    monkeypatch.setattr(unit, "_allows", patched)
