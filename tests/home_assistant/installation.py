"""Home Assistant in a virtual environment of its own, made once: the newest that fits this Python.

`python -m tests.home_assistant.installation` makes it ahead of the tests.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(os.environ.get("SECRETSD_TEST_HOME_ASSISTANT", ROOT / ".venv-home-assistant"))

RELEASES = {(3, 11): "2024.3.3", (3, 12): "2024.12.5", (3, 13): "2025.1.4"}
"""The last release that installs headless on a Python; the first was tried. For others pip takes the newest."""

INTEGRATIONS = ("mqtt", "api", "automation")
SECONDS = 1200


class CannotInstall(Exception):
    """Why there is no Home Assistant here."""


def requirement(python: tuple[int, int]) -> str:
    """Return what to ask pip for under this version of Python."""
    release = RELEASES.get(python)
    return "homeassistant" if release is None else f"homeassistant=={release}"


def installed() -> Path:
    """Return the `hass` command, installed first where it isn't there yet. Raises CannotInstall."""
    stamp = VENV / ".ready"
    wanted = requirement(sys.version_info[:2])
    VENV.mkdir(exist_ok=True)
    with (VENV / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _run([sys.executable, "-m", "venv", str(VENV)])
            _pip(wanted)
            _pip(*_requirements())
            # A dependency of the API asks for josepy without saying that 2 is too new for it.
            _pip("--no-deps", "josepy<2")
            stamp.write_text(wanted)
    return VENV / "bin" / "hass"


def _requirements() -> list[str]:
    """Return what the integrations that are used need, as Home Assistant itself would install it when asked to."""
    components = next(VENV.glob("lib/python*/site-packages/homeassistant/components"))
    wanted: set[str] = set()
    waiting, seen = list(INTEGRATIONS), set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        manifest = json.loads((components / name / "manifest.json").read_text())
        wanted.update(manifest.get("requirements", ()))
        waiting += [other for other in manifest.get("dependencies", ()) if other not in seen]
    return sorted(wanted)


def _pip(*arguments: str) -> None:
    _run([str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.CalledProcessError as error:
        raise CannotInstall(f"{' '.join(command)}: {error.stderr.strip()[-400:]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(str(error)) from None


if __name__ == "__main__":
    try:
        installed()
    except CannotInstall as error:
        sys.exit(f"no Home Assistant: {error}")
