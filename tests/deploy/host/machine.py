"""A machine with a booted systemd: a container whose process 1 is init, with a root of its own."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.deploy import images
from tests.deploy.host.wheels import ROOT
from tests.support.waiting import eventually

PACKAGES: Final = (
    "apparmor", "curl", "dbus", "logrotate", "procps", "python3", "python3-venv", "systemd", "systemd-sysv",
)  # fmt: skip
"""What is on a plain Debian server, as far as anything here uses it."""
BOOT_SECS: Final = 60.0
COMMAND_SECS: Final = 240.0


def unavailable() -> str | None:
    """Return why no machine can be booted here, None where one can."""
    return images.unavailable("debootstrap", "tar")


class Machine:
    """One booted container. A context manager: leaving takes it away, after a failure with its journal printed."""

    def __init__(self) -> None:
        self.name = f"secretsd-host-{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        image = images.debian(*PACKAGES)
        # init has to be able to mount (units' namespaces, credentials), and expects mounts to be shared, as the kernel
        # and other container managers than Docker leave them.
        _docker(
            "run", "--detach", "--name", self.name, "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN",
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--cgroupns=private",
            "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--tmpfs", "/run", "--tmpfs", "/tmp", image,
            "/bin/sh", "-c", "mount --make-rshared / && exec /sbin/init",
        )  # fmt: skip
        try:
            eventually(self._is_up, "systemd says that the machine runs", within=BOOT_SECS)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def run(self, command: str, *, status: int | None = 0, stdin: str = "") -> str:
        """Return what a shell command said, both streams; `status` is what it must end with, None for anything."""
        done = subprocess.run(
            ["docker", "exec", "--interactive", self.name, "bash", "-c", command],
            input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=COMMAND_SECS,
        )  # fmt: skip
        if status is not None and done.returncode != status:
            sys.stderr.write(f"--- the journal ---\n{self._journal()}\n")
            raise AssertionError(f"`{command}` ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def succeeds(self, command: str) -> bool:
        """Tell whether a shell command ends with 0."""
        done = subprocess.run(
            ["docker", "exec", self.name, "bash", "-c", command], capture_output=True, check=False, timeout=COMMAND_SECS
        )
        return done.returncode == 0

    def spawn(self, command: str) -> subprocess.Popen[str]:
        """Start a shell command and return at once."""
        return subprocess.Popen(
            ["docker", "exec", self.name, "bash", "-c", command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def write(self, path: str, text: str, mode: str = "0644") -> None:
        """Make a file, and the folders above it."""
        self.run(f"install -D -m {mode} /dev/stdin '{path}'", stdin=text)

    def bring(self, source: Path, target: str) -> None:
        """Copy a file or a folder into the machine."""
        self.run(f"mkdir -p '{Path(target).parent}'")
        _docker("cp", str(source), f"{self.name}:{target}")

    def bring_checkout(self, wheels: Path) -> None:
        """Bring what the installer needs: /src/deploy, /src/docs and the wheels in /wheels."""
        for folder in ("deploy", "docs"):
            self.bring(ROOT / folder, f"/src/{folder}")
        self.bring(wheels, "/wheels")

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit."""
        return self.run(f"systemctl show --value --property={name} {unit}").strip()

    def _is_up(self) -> bool:
        return self.run("systemctl is-system-running", status=None).strip() in {"running", "degraded"}

    def _journal(self) -> str:
        shown = subprocess.run(
            ["docker", "exec", self.name, "journalctl", "--no-pager", "--lines=60", "--output=cat"],
            capture_output=True, check=False, text=True, timeout=30,
        )  # fmt: skip
        return shown.stdout

    def _remove(self) -> None:
        subprocess.run(["docker", "rm", "--force", "--volumes", self.name], capture_output=True, check=False)


def _docker(*arguments: str) -> None:
    done = subprocess.run(["docker", *arguments], capture_output=True, check=False, text=True, timeout=COMMAND_SECS)
    assert done.returncode == 0, f"docker {arguments[0]} failed: {done.stderr}"
