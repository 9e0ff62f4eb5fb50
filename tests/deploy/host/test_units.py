"""The files for the host, as the tools judge them that read them; nothing is started."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.host.wheels import ROOT

pytestmark = pytest.mark.deploy

SYSTEMD = ROOT / "deploy" / "systemd"
UNITS = sorted([*SYSTEMD.glob("*.service"), *SYSTEMD.glob("*.socket")])
SERVICE = SYSTEMD / "jarvis-secretsd.service"


def tool(name: str) -> str:
    """Return a program of an administrator; the test is skipped where it isn't installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} isn't installed here")
    return found


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units, with programs in place of those that an installation brings."""
    release = tmp_path / "current"
    for program in re.findall(r"/opt/jarvis-secretsd/current/([\w/-]+)", SERVICE.read_text()):
        (release / program).parent.mkdir(parents=True, exist_ok=True)
        (release / program).touch(mode=0o755)
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/jarvis-secretsd/current", str(release)))
    return [str(tmp_path / unit.name) for unit in UNITS]


def test_systemd_finds_nothing_wrong_with_the_units(units: list[str]) -> None:
    assert said(tool("systemd-analyze"), "verify", "--man=no", *units) == ""


def test_the_exposure_is_below_two(units: list[str]) -> None:
    service = next(unit for unit in units if unit.endswith(".service"))
    told = said(tool("systemd-analyze"), "security", "--offline=yes", "--threshold=20", "--no-pager", service)
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", told)
    assert level is not None, told
    assert float(level[1]) < 2.0


def test_users_keep_their_numbers_since_a_number_can_be_a_proof() -> None:
    assert "PrivateUsers" not in SERVICE.read_text()


def test_every_line_of_the_sandbox_is_explained() -> None:
    page = (ROOT / "docs" / "systemd.md").read_text()
    service = SERVICE.read_text().partition("[Service]")[2].partition("[Install]")[0]
    settings = set(re.findall(r"^([A-Z]\w+)=", service, re.MULTILINE))
    assert not {one for one in settings if f"`{one}" not in page}


def test_the_user_and_the_folders_are_made_as_described(tmp_path: Path) -> None:
    for folder in ("etc", "opt", "run"):
        (tmp_path / folder).mkdir()
    said(tool("systemd-sysusers"), f"--root={tmp_path}", str(SYSTEMD / "jarvis-secretsd.sysusers"))
    passwd = (tmp_path / "etc/passwd").read_text()
    assert re.search(r"^jarvis-secretsd:.*:/nonexistent:/usr/sbin/nologin$", passwd, re.MULTILINE), passwd
    assert "jarvis-secrets:" in (tmp_path / "etc/group").read_text()
    said(tool("systemd-tmpfiles"), "--create", f"--root={tmp_path}", str(SYSTEMD / "jarvis-secretsd.tmpfiles"))
    assert (tmp_path / "opt/jarvis/secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "opt/jarvis/audit").stat().st_mode & 0o777 == 0o700


def test_apparmor_takes_the_profile() -> None:
    said(tool("apparmor_parser"), "--skip-kernel-load", "--skip-cache", str(ROOT / "deploy/apparmor/jarvis-secretsd"))


def test_logrotate_takes_the_entry() -> None:
    told = subprocess.run(
        [tool("logrotate"), "--debug", "--state=/dev/null", str(ROOT / "deploy/logrotate/jarvis-secretsd")],
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    # Its user isn't on this machine, which is all that it may complain of.
    complaints = [line for line in told.stderr.splitlines() if line.startswith("error")]
    assert not [line for line in complaints if "unknown user" not in line and "found error in" not in line], complaints
