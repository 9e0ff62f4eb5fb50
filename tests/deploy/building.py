"""From the sources to images, as docs/containers.md builds them where there is no network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.deploy import images

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ("secretsd", "bus", "clients", "deploy", "mosquitto")
FILES: Final = (".dockerignore", "LICENSE", "README.md", "pyproject.toml")


def copy_context(folder: Path) -> Path:
    """Copy what the image is built from to `folder`, so that no wheel is written into the sources; return it."""
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "wheels", "target"))
    for name in FILES:
        shutil.copy2(ROOT / name, folder / name)
    return folder


def build(folder: Path, stem: str, base: str, *, target: str = "secretsd") -> str:
    """Return the tag of the image that deploy/Dockerfile makes of `folder` on `base`, without a network."""
    tag = images.named(stem)
    done = subprocess.run(
        [
            *("docker", "build", "--network", "none", "--force-rm"),
            *("--file", str(folder / "deploy" / "Dockerfile"), "--target", target, "--build-arg", f"BASE={base}"),
            *("--tag", tag, str(folder)),
        ],
        env={**os.environ, "DOCKER_BUILDKIT": "0"},  # BuildKit is a plugin that isn't everywhere
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"the build failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return tag


def debian_program(package: str, path: str, folder: Path) -> Path | None:
    """Return a program of this machine, or else of Debian's `package` unpacked in `folder`; None without either."""
    installed = Path("/", path)
    if installed.exists():
        return installed
    for command in (["apt-get", "download", package], ["sh", "-c", f"dpkg-deb --extract {package}_*.deb ."]):
        if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode != 0:
            return None
    return folder / path
