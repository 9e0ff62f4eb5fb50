"""A folder of wheels, so that the installer needs no network: those of others are kept, ours are built anew."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
OURS: Final = ("bus", "clients/python", ".")


def wheelhouse(folder: Path) -> Path:
    """Fill `folder` with the wheels of this checkout and of all that it needs, for this machine's Python; return it.

    Those of others are fetched once for each state of the three pyproject.toml, and kept.
    """
    said = b"".join((ROOT / one / "pyproject.toml").read_bytes() for one in OURS)
    kept = Path(tempfile.gettempdir(), f"secretsd-test-wheels-{hashlib.sha256(said).hexdigest()[:12]}")
    with Path(f"{kept}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not kept.exists():
            fresh = Path(tempfile.mkdtemp(dir=kept.parent))
            _pip_wheel(fresh)
            fresh.rename(kept)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    _pip_wheel(folder, "--no-deps")
    return folder


def _pip_wheel(target: Path, *options: str) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(target), *options]
    built = subprocess.run(
        [*command, *(f"./{one}" for one in OURS)], cwd=ROOT, capture_output=True, check=False, text=True
    )
    assert built.returncode == 0, f"pip wheel failed:\n{built.stderr[-2000:]}"
