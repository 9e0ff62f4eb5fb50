"""The kind `command`: what the program is given, what its end means, and what must not be run."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from msgspec.structs import asdict

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators import Misconfigured, Order, Refused, Retryable, configure
from secretsd.rotators.command import check_program
from secretsd.rotators.conformance import Conformance, OtherEnd
from tests.support.lockbox import FIRST, Lockbox
from tests.support.waiting import eventually


@dataclass(kw_only=True)
class Boxed(OtherEnd):
    box: Lockbox

    async def accepts(self, value: Sensitive) -> bool:
        return self.box.password.encode() == value.reveal()

    def log(self) -> str:
        return str(self.box.calls())

    def unreachable(self) -> Mapping[str, object]:
        return self._failing("down", 75)

    def refusing(self) -> Mapping[str, object]:
        return self._failing("refusing", 77)

    def silent(self) -> Mapping[str, object]:
        other = Lockbox(self.box.folder / "silent")
        for step in ("set", "test", "rollback"):
            other.block(f"before-{step}")
        return {**other.rule()["rotator"], "timeout": "1s"}

    def _failing(self, name: str, status: int) -> Mapping[str, object]:
        other = Lockbox(self.box.folder / name)
        for step in ("set", "test", "rollback"):
            other.fail(step, status)
        members: Mapping[str, object] = other.rule()["rotator"]
        return members


class TestAProgramThatKeepsAPassword(Conformance):
    @pytest.fixture
    def end(self, tmp_path: Path) -> Boxed:
        box = Lockbox(tmp_path / "box")
        return Boxed(members=box.rule()["rotator"], old=Sensitive(FIRST.encode()), box=box)


def program(folder: Path, body: str) -> Path:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return path


def order(**changes: Any) -> Order:
    async def read(name: str) -> Sensitive:
        return Sensitive(f"value of {name}".encode())

    members: dict[str, Any] = {
        "name": "db_password",
        "token": "t" * 22,
        "version": 7,
        "new": Sensitive(b"the-new-one"),
        "old": Sensitive(b"\xff\x00"),
        "read": read,
        "sign": lambda kind, data: b"",
    }
    return Order(**members | changes)


async def test_it_is_given_one_object_with_the_step_and_the_values(tmp_path: Path) -> None:
    path = program(tmp_path, f"cd {tmp_path}; cat > got; env > env; echo $OLDPWD > pwd; echo $* > args")
    rule = configure(
        {
            "kind": "command",
            "program": [str(path), "--host", "router.lan; touch x"],
            "secrets": {"admin": "router_admin"},
            "environment": {"EXTRA": "1"},
        }
    )
    assert rule.config.reads() == ("router_admin",)
    await rule.build().set(order())
    assert json.loads((tmp_path / "got").read_text()) == {
        "step": "set",
        "token": "t" * 22,
        "name": "db_password",
        "version": 7,
        "new": {"encoding": "utf-8", "value": "the-new-one"},
        "old": {"encoding": "base64", "value": "/wA="},
        "secrets": {"admin": {"encoding": "utf-8", "value": "value of router_admin"}},
    }
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "LANG", "EXTRA"}
    assert (tmp_path / "pwd").read_text() == "/\n"
    assert (tmp_path / "args").read_text() == "--host router.lan; touch x\n"


async def test_a_rollback_hands_over_the_old_value_as_the_one_to_take(tmp_path: Path) -> None:
    path = program(tmp_path, f"cat > {tmp_path}/got")
    await configure({"kind": "command", "program": [str(path)]}).build().rollback(order(old=Sensitive(b"the-old-one")))
    got = json.loads((tmp_path / "got").read_text())
    assert (got["step"], got["new"]["value"], got["old"]["value"]) == ("rollback", "the-old-one", "the-new-one")


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("exit 75", Retryable, "program ended with status 75"),
        ("exit 1", Retryable, "program ended with status 1"),
        ("kill -9 $$", Retryable, "program was ended by SIGKILL"),
        ("echo no such user >&2; exit 67", Refused, "program ended with status 67: no such user"),
        ("exit 127", Refused, "program ended with status 127"),
    ],
)
async def test_how_it_ends_is_what_it_means(tmp_path: Path, body: str, kind: type[Exception], said: str) -> None:
    rule = configure({"kind": "command", "program": [str(program(tmp_path, body))]})
    with pytest.raises(kind) as failed:
        await rule.build().set(order())
    assert str(failed.value) == said


async def test_what_it_says_is_cut_short_and_told_without_values(tmp_path: Path) -> None:
    path = program(tmp_path, "cat >&2; head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1")
    with pytest.raises(Retryable) as failed:
        await configure({"kind": "command", "program": [str(path)]}).build().set(order())
    assert len(str(failed.value)) < 5000
    assert "the-new-one" not in str(failed.value)


LONG = "".join(f"{number:05}-secret." for number in range(1000))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("printf %s LONG >&2; exit 1", id="longer than all that is told"),
        pytest.param("printf 'SECRET%04090d' 0 >&2; exit 1", id="cut where the told part begins"),
        pytest.param("printf 'it is SECRETHALF' >&2; kill -9 $$", id="cut where the program ended"),
    ],
)
async def test_no_part_of_a_value_is_told_where_the_output_is_cut(tmp_path: Path, body: str) -> None:
    short = "Xk7pQ2vLm9Rt4WzB"
    texts = body.replace("LONG", LONG).replace("SECRETHALF", short[:9]).replace("SECRET", short)
    path = program(tmp_path, texts)
    values = {"new": Sensitive(short.encode()), "old": Sensitive(LONG.encode())}
    with pytest.raises(Retryable) as failed:
        await configure({"kind": "command", "program": [str(path)]}).build().set(order(**values))
    said = str(failed.value)
    parts = [value[at : at + 4] for value in (short, LONG[-5000:]) for at in range(len(value) - 3)]
    assert not [part for part in parts if part in said and part != "0000"]


async def test_a_value_that_is_no_text_is_not_told_either(tmp_path: Path) -> None:
    binary = bytes([0xFF, *b"half-readable", 0xFE, *b"and-the-rest"])
    (tmp_path / "binary").write_bytes(binary)
    path = program(tmp_path, f"cat {tmp_path}/binary >&2; exit 1")
    with pytest.raises(Retryable) as failed:
        await configure({"kind": "command", "program": [str(path)]}).build().set(order(new=Sensitive(binary)))
    assert str(failed.value) == "program ended with status 1: [struck out]"


@pytest.mark.parametrize("value", ['Grüße "an" alle 42', 'pä"ss\\wörd-geheim-42', "tab\tand\x7fthe-rest-ü"])
async def test_what_it_was_handed_is_not_told_where_it_says_it_again(tmp_path: Path, value: str) -> None:
    path = program(tmp_path, "cat >&2; exit 1")
    with pytest.raises(Retryable) as failed:
        await configure({"kind": "command", "program": [str(path)]}).build().set(order(new=Sensitive(value.encode())))
    assert '"new":{"encoding":"utf-8","value":"[struck out]"}' in str(failed.value)


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_it_has_no_descriptor_of_the_daemons(tmp_path: Path, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    held, other = os.pipe()
    try:
        os.set_inheritable(held, True)
        path = program(tmp_path, f"exec {sys.executable} -I {tmp_path}/listing.py > {tmp_path}/found")
        (tmp_path / "listing.py").write_text("import os; print(*os.listdir('/proc/self/fd'))")
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(configure({"kind": "command", "program": [str(path)]}).build().set(order()))
    finally:
        os.close(held)
        os.close(other)
    # Besides the standard ones the one that lists them.
    assert set((tmp_path / "found").read_text().split()) - {"0", "1", "2"} == {"3"}


async def test_one_that_reads_nothing_is_no_error(tmp_path: Path) -> None:
    path = program(tmp_path, "exit 0")
    await configure({"kind": "command", "program": [str(path)]}).build().set(order(new=Sensitive(b"x" * 65_536)))


async def test_nothing_that_it_started_is_left_behind(tmp_path: Path) -> None:
    path = program(tmp_path, f"sleep 300 >/dev/null 2>&1 & echo $! > {tmp_path}/child; exit 0")
    await configure({"kind": "command", "program": [str(path)]}).build().set(order())
    child = int((tmp_path / "child").read_text())
    eventually(lambda: not _alive(child), "the child is gone")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_program_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = program(tmp_path, "exit 0")
    check_program(path)
    path.chmod(mode)
    with pytest.raises(Refused, match="could be changed by others"):
        check_program(path)


def test_a_folder_that_others_may_write_counts_and_so_does_what_a_link_leads_to(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = program(folder, "exit 0")
    link = tmp_path / "link"
    link.symlink_to(path)
    check_program(link)
    folder.chmod(0o777)
    for one in (path, link):
        with pytest.raises(Refused, match="could be changed by others"):
            check_program(one)
    folder.chmod(0o777 | stat.S_ISVTX)
    check_program(path)


def test_what_is_no_program_or_isnt_there_is_refused(tmp_path: Path) -> None:
    path = program(tmp_path, "exit 0")
    path.chmod(0o600)
    if os.geteuid() == 0:
        path.chmod(0o000)
    for one in (path, tmp_path, tmp_path / "missing"):
        with pytest.raises(Refused, match="can't be run"):
            check_program(one)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"program": ["relative/program"]}, "an absolute path"),
        ({"program": ["/a/../b"]}, "an absolute path"),
        ({"program": []}, "found a list of 0; allowed: a list of 1 to 64 members"),
        (
            {"program": "/bin/true"},
            "found a string; allowed: a list of 1 to 64 members, each a string of at most 4096 characters",
        ),
        (
            {"program": ["/bin/true"], "secrets": {"a b": "x"}},
            "a key doesn't fit; allowed: a variable's name (letters",
        ),
        (
            {"program": ["/bin/true"], "environment": {"1st": "x"}},
            "a key doesn't fit; allowed: a variable's name (letters",
        ),
        ({"program": ["/bin/true"], "environment": {"HOME\n": "x"}}, "a key doesn't fit"),
        ({"program": ["/bin/true"], "shell": True}, 'unknown key "shell"'),
    ],
)
def test_settings_that_cant_be_meant_are_refused(members: dict[str, object], said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        configure({"kind": "command", **members})
    assert said in refused.value.complaint


def test_it_tidies_up_only_where_the_settings_ask_for_it() -> None:
    assert not configure({"kind": "command", "program": [sys.executable]}).build().finishes(urgent=False)
    rule = configure({"kind": "command", "program": [sys.executable], "finish": True})
    assert rule.build().finishes(urgent=False)
    assert asdict(rule.config)["finish"] is True
