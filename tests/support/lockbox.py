"""An other end for the kind `command`: a file with a password, and a program that changes it as the tests want."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

FIRST = "the-very-first-password"
PROGRAM = '''#!{python} -IS
"""Takes the steps of a rotation; what lies in its folder says how."""
import json, os, sys, time
folder = {folder!r}
order = json.load(sys.stdin)
step = order["step"]


def at(name):
    return os.path.exists(os.path.join(folder, name))


def note(what):
    with open(os.path.join(folder, "log"), "a") as log:
        log.write(json.dumps([what, order["token"], order["version"], sorted(os.environ)]) + "\\n")


def block(name):
    if at(name):
        note("blocked " + name)
        while at(name):
            time.sleep(0.01)


note(step)
block("before-" + step)
if at("fail-" + step):
    print("cannot", step, order["new"]["value"], file=sys.stderr)
    sys.exit(int(open(os.path.join(folder, "fail-" + step)).read()))
password = os.path.join(folder, "password")
if step in ("set", "rollback"):
    with open(password + ".new", "w") as file:
        file.write(order["new"]["value"])
    os.replace(password + ".new", password)
elif step == "test" and open(password).read() != order["new"]["value"]:
    print("wrong password", file=sys.stderr)
    sys.exit(75)
block("after-" + step)
'''


class Lockbox:
    """The folder, and what to put into it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.program = folder / "lockbox"
        self.program.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)))
        self.program.chmod(0o700)
        (folder / "password").write_text(FIRST)

    def rule(self, **members: Any) -> dict[str, Any]:
        """Return the policy's rule of a secret whose other end this is."""
        return {"type": "password", "rotator": {"kind": "command", "program": [str(self.program)], **members}}

    @property
    def password(self) -> str:
        return (self.folder / "password").read_text()

    def block(self, place: str) -> Path:
        """Let the program wait at `before-STEP` or `after-STEP` until the file that is returned is removed."""
        path = self.folder / place
        path.touch()
        return path

    def fail(self, step: str, status: int = 75) -> Path:
        """Let a step fail until the file that is returned is removed."""
        path = self.folder / f"fail-{step}"
        path.write_text(str(status))
        return path

    def calls(self) -> list[tuple[str, str, int, list[str]]]:
        """Return what was noted: what, token, version, names of the environment."""
        log = self.folder / "log"
        return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []

    def wait_blocked(self, place: str) -> None:
        """Return once the program waits there."""
        eventually(lambda: any(what == f"blocked {place}" for what, *_ in self.calls()), f"it waits at {place}")
