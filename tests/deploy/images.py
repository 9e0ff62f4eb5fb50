"""Images where none can be pulled: a Debian from debootstrap, and programs of this machine with their libraries.

A Debian takes a minute or two to make and is kept, under a tag that names what is in it; delete it with
`docker image rm`. Everything else that a test makes, it removes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

SUPERFLUOUS: Final = ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "usr/share/doc/*", "usr/share/locale/*")
"""What a debootstrapped root is rid of before it becomes an image."""


def unavailable(*programs: str) -> str | None:
    """Return why nothing can be tried with Docker here (and with `programs` of this machine), None where it can."""
    missing = [program for program in ("docker", *programs) if _program(program) is None]
    if missing:
        return f"not installed here: {', '.join(missing)}"
    asked = subprocess.run(["docker", "version"], capture_output=True, check=False, text=True, timeout=20)
    if asked.returncode == 0:
        return None
    said = asked.stderr.strip().splitlines()
    return f"docker doesn't answer: {said[-1] if said else asked.returncode}"


def named(stem: str) -> str:
    """Return a tag that no other run of the tests uses."""
    return f"{stem}:{os.getpid()}"


def has(image: str) -> bool:
    """Tell whether this machine's Docker holds `image`."""
    asked = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False, timeout=20)
    return asked.returncode == 0


def remove(*tags: str) -> None:
    """Remove images that a test made; those that aren't there are no failure."""
    if tags:
        subprocess.run(["docker", "image", "rm", "--force", *tags], capture_output=True, check=False, timeout=60)


def debian(*packages: str) -> str:
    """Return the tag of an image of this machine's Debian release with `packages`, made where it isn't there yet.

    Needs root and debootstrap. Two that ask at once take turns, and the second finds it made.
    """
    suite = _suite()
    digest = hashlib.sha256("\n".join([suite, *sorted(packages)]).encode()).hexdigest()
    tag = f"secretsd-test-debian:{suite}-{digest[:12]}"
    with Path(tempfile.gettempdir(), f"{tag.replace(':', '-')}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not has(tag):
            _debootstrap(suite, packages, tag)
    return tag


def from_programs(
    tag: str, programs: Sequence[str], *, files: Mapping[str, str] | None = None, settings: Sequence[str] = ()
) -> str:
    """Return `tag`, an image of nothing but `programs` of this machine, the libraries that ldd names, and `files`.

    `files` are texts by their path in the image; `settings` are Dockerfile lines such as `USER 1883:1883`.
    """
    with tempfile.TemporaryDirectory(prefix="image-") as name:
        root = Path(name)
        for program in programs:
            found = _program(program)
            assert found is not None, f"{program} isn't installed here"
            for path in (found, *_libraries(found)):
                _copy(path, root)
        for path, text in (files or {}).items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        _import(root, tag, settings)
    return tag


def _debootstrap(suite: str, packages: Sequence[str], tag: str) -> None:
    with tempfile.TemporaryDirectory(prefix="debian-") as name:
        root = Path(name) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(root)]
        made = subprocess.run(command, capture_output=True, check=False, text=True)
        assert made.returncode == 0, f"debootstrap failed:\n{made.stdout[-2000:]}{made.stderr[-2000:]}"
        for pattern in SUPERFLUOUS:
            for path in root.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        _import(root, tag, ())


def _import(root: Path, tag: str, settings: Sequence[str]) -> None:
    """Make an image of what lies under `root`; devices stay out, a container has its own."""
    root.chmod(0o755)
    changes = [part for line in settings for part in ("--change", line)]
    with subprocess.Popen(
        ["tar", "-C", str(root), "--numeric-owner", "--exclude=./dev/*", "--exclude=./proc/*", "-c", "."],
        stdout=subprocess.PIPE,
    ) as tar:
        subprocess.run(["docker", "import", *changes, "-", tag], stdin=tar.stdout, check=True, capture_output=True)
    assert tar.returncode == 0, f"tar ended with {tar.returncode}"


def _suite() -> str:
    """Return the release of this machine's Debian, stable where it says none."""
    try:
        named = re.search(r"(?m)^VERSION_CODENAME=\"?([a-z]+)", Path("/etc/os-release").read_text())
    except OSError:
        named = None
    return named[1] if named else "stable"


def _program(name: str) -> Path | None:
    """Return where a program is; those of administrators are found too."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    return None if found is None else Path(found)


def _libraries(program: Path) -> list[Path]:
    """Return the shared libraries that a program is linked with, its loader included; none for a static one."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, check=False, text=True).stdout
    return [Path(path) for path in re.findall(r"(/[^ ]+) \(0x", said)]


def _copy(path: Path, root: Path) -> None:
    """Copy a file, not the link to it, to the same path under `root`."""
    target = root / str(path).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path.resolve(), target)
