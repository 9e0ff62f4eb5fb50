"""A rotator that another distribution brings by its entry point passes the same suite as ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators import kinds
from secretsd.rotators.conformance import Conformance, OtherEnd
from tests.support.rotators import install

SOURCE = '''
"""A drawer: a folder in which a service looks for its password."""

import asyncio
from pathlib import Path

from secretsd.rotators import Order, Refused, Retryable, Rotator, RotatorConfig


class DrawerConfig(RotatorConfig, frozen=True):
    folder: str
    key: str

    def reads(self):
        return (self.key,)


class Drawer(Rotator[DrawerConfig]):
    config_type = DrawerConfig

    async def set(self, order: Order) -> None:
        paper = await self._open(order)
        paper.with_suffix(".new").write_bytes(order.new.reveal())
        paper.with_suffix(".new").replace(paper)

    async def test(self, order: Order) -> None:
        paper = await self._open(order)
        if paper.read_bytes() != order.new.reveal():
            raise Refused("the drawer holds another password: look whether somebody else writes there")

    async def _open(self, order: Order) -> Path:
        folder = Path(self.config.folder)
        if (folder / "jammed").exists():
            await asyncio.Event().wait()
        if not folder.is_dir():
            raise Retryable(f"there is no drawer {folder}")
        if (folder / "lock").read_bytes() != (await order.read(self.config.key)).reveal():
            raise Refused("the key doesn't fit the drawer: see the secret " + self.config.key)
        return folder / "password"
'''


@dataclass(kw_only=True)
class DrawerEnd(OtherEnd):
    folder: Path

    async def accepts(self, value: Sensitive) -> bool:
        return (self.folder / "password").read_bytes() == value.reveal()

    def log(self) -> str:
        return ""

    def unreachable(self) -> Mapping[str, object]:
        return {**self.members, "folder": f"{self.folder}/none"}

    def refusing(self) -> Mapping[str, object]:
        return {**self.members, "folder": str(make(self.folder / "locked", lock=b"another lock"))}

    def silent(self) -> Mapping[str, object]:
        (self.folder / "jammed").touch()
        return {**self.members, "timeout": "1s"}


def make(folder: Path, lock: bytes) -> Path:
    folder.mkdir()
    (folder / "lock").write_bytes(lock)
    (folder / "password").write_bytes(b"the first password in the drawer")
    return folder


class TestDrawer(Conformance):
    @pytest.fixture
    def end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DrawerEnd:
        installed = tmp_path / "site"
        installed.mkdir()
        install(installed, SOURCE, drawer="Drawer")
        monkeypatch.syspath_prepend(str(installed))
        assert "drawer" in kinds()
        folder = make(tmp_path / "drawer", lock=b"the key of the drawer")
        return DrawerEnd(
            members={"kind": "drawer", "folder": str(folder), "key": "drawer_key"},
            old=Sensitive(b"the first password in the drawer"),
            secrets={"drawer_key": Sensitive(b"the key of the drawer")},
            folder=folder,
        )
