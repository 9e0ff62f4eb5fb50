"""The rotator `command` passes the suite: the program is a shell script that keeps a password in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators.conformance import Conformance, OtherEnd

OLD = b"the old password of the service"
PROGRAM = """#!/bin/sh
set -eu
cd "$1"
order=$(cat)
step=$(printf %s "$order" | jq -r .step)
[ ! -e silent ] || exec sleep 600
[ "$(printf %s "$order" | jq -r .secrets.admin.value)" = "open sesame" ] || { echo "the key doesn't fit" >&2; exit 77; }
[ -e password ] || { echo "the service is down" >&2; exit 75; }
case $step in
set | rollback)
    printf %s "$order" | jq -j .new.value > new
    mv new password
    ;;
test)
    printf %s "$order" | jq -j .new.value | cmp -s - password || { echo "another password" >&2; exit 1; }
    ;;
esac
"""


@dataclass(kw_only=True)
class Service(OtherEnd):
    folder: Path

    async def accepts(self, value: Sensitive) -> bool:
        return (self.folder / "password").read_bytes() == value.reveal()

    def log(self) -> str:
        return ""

    def unreachable(self) -> Mapping[str, object]:
        down = self.folder / "down"
        down.mkdir()
        return self._in(down)

    def refusing(self) -> Mapping[str, object]:
        return {**self.members, "secrets": {"admin": "other_key"}}

    def silent(self) -> Mapping[str, object]:
        (self.folder / "silent").touch()
        return {**self.members, "timeout": "1s"}

    def _in(self, folder: Path) -> Mapping[str, object]:
        return {**self.members, "program": [str(self.folder / "program"), str(folder)]}


class TestCommand(Conformance):
    @pytest.fixture
    def end(self, tmp_path: Path) -> Service:
        program = tmp_path / "program"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        (tmp_path / "password").write_bytes(OLD)
        return Service(
            members={"kind": "command", "program": [str(program), str(tmp_path)], "secrets": {"admin": "service_key"}},
            old=Sensitive(OLD),
            secrets={"service_key": Sensitive(b"open sesame"), "other_key": Sensitive(b"the words of another cave")},
            folder=tmp_path,
        )
