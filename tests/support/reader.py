"""Somebody who follows a page: types its commands into terminals, saves its files, compares what it says is printed.

What a page can say in a comment before a block: `terminal: NAME` (another window; what is typed there may go on for
ever), `file: PATH` (the block is that file), `fails: STATUS` (the last command ends so), `ends: NAME …` (Ctrl-C in
those windows first), `prints: NAME` (what is shown appears in that window). A block of the language `text` is what
was printed: `…` stands for whatever is there, alone in a line for any lines.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.pages import Block
from tests.support.waiting import eventually

TYPED_SECS: Final = 60.0


class Mismatch(AssertionError):
    """What was printed isn't what the page shows."""


def pattern(shown: str) -> re.Pattern[str]:
    """Return what matches the output that a page shows."""
    lines = []
    for line in shown.rstrip("\n").split("\n"):
        if line.strip() == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(".*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ ]*\n")
    return re.compile("".join(lines))


class Terminal:
    """One bash in a folder. What a block typed here sets is there for the next one, and a failing command ends it."""

    def __init__(self, name: str, folder: Path, private: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._private = private
        self._typed = 0
        self._output = private / f"{name}.out"
        self._seen = 0
        with self._output.open("wb") as output:
            self._bash = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-e"],
                cwd=folder, stdin=subprocess.PIPE, stdout=output, stderr=output, env=dict(environment),
                start_new_session=True,
            )  # fmt: skip

    def output(self) -> str:
        """Return all that was printed here."""
        return self._output.read_text(errors="replace")

    def type(self, script: str) -> None:
        """Type a script and return at once."""
        self._typed += 1
        self._seen = len(self.output())
        step = self._private / f"{self.name}-{self._typed}.sh"
        step.write_text(script)
        assert self._bash.stdin is not None
        # Commands read what a reader would type from nowhere: not the lines that are still to come.
        self._bash.stdin.write(f". {step} </dev/null; echo $? > {step}.ended\n".encode())
        self._bash.stdin.flush()

    def run(self, block: Block, script: str) -> str:
        """Type a script, wait for its end, and return what it printed; `fails: STATUS` is how its last command ends."""
        fails = block.marks.get("fails")
        self.type(script if fails is None else f"set +e\n{script}\nended=$?\nset -e\ntest $ended = {fails}\n")
        ended = self._private / f"{self.name}-{self._typed}.sh.ended"
        eventually(lambda: ended.exists() or self._bash.poll() is not None, f"{block.place} ends", within=TYPED_SECS)
        printed = self.output()[self._seen :]
        assert ended.exists(), f"{block.place}: a command failed:\n{script}\n{printed}"
        return printed

    def shows(self, block: Block, shown: str) -> None:
        """Wait until this is printed, after all that a page showed of this window before."""

        def there() -> bool:
            found = pattern(shown).search(self.output(), self._seen)
            if found is None:
                raise Mismatch(f"{block.place} shows\n{shown}\nin {self.name} is\n{self.output()[self._seen :]}")
            self._seen = found.end()
            return True

        eventually(there, f"{block.place} is printed")

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait until what was going on here has ended."""
        self._tell(signal.SIGINT)
        ended = self._private / f"{self.name}-{self._typed}.sh.ended"
        eventually(lambda: ended.exists() or self._bash.poll() is not None, f"Ctrl-C ends what {self.name} does")

    def close(self) -> None:
        """End it and what was started in it, as closing the window does."""
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self._tell(signal.SIGTERM)
        try:
            self._bash.wait(20)
        except subprocess.TimeoutExpired:
            self._bash.kill()
            self._bash.wait()
        self._tell(signal.SIGKILL)

    def _tell(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, number)


class Reader:
    """A page's reader in `folder`; `replaced` goes in place of what can't be used here (ports). A context manager."""

    def __init__(
        self, folder: Path, private: Path, environment: Mapping[str, str], replaced: Mapping[str, str] | None = None
    ) -> None:
        self._folder, self._private = folder, private
        self._environment = environment
        self._replaced = dict(replaced or {})
        self._terminals: dict[str, Terminal] = {}
        self._printed: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The windows in which something goes on are closed before those that they ask.
        for terminal in reversed(self._terminals.values()):
            terminal.close()

    def terminal(self, name: str) -> Terminal:
        """Return the window of this name, opened the first time."""
        if name not in self._terminals:
            self._terminals[name] = Terminal(name, self._folder, self._private, self._environment)
        return self._terminals[name]

    def follow(self, page: Iterable[Block]) -> None:
        """Do what each block says, in order."""
        for block in page:
            self.step(block)

    def step(self, block: Block) -> None:
        """Do what one block says: save it, type it, or compare it with what was printed."""
        text = self._here(block.text)
        for name in block.marks.get("ends", "").split():
            self.terminal(name).interrupt()
        if "file" in block.marks:
            path = self._folder / block.marks["file"].replace("~", self._environment["HOME"], 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif block.is_command and "terminal" in block.marks:
            self.terminal(block.marks["terminal"]).type(text)
            self._printed = None
        elif block.is_command:
            self._printed = self.terminal("first").run(block, text)
        elif block.language == "text" and "prints" in block.marks:
            self.terminal(block.marks["prints"]).shows(block, text)
        elif block.language == "text":
            assert self._printed is not None, f"{block.place}: nothing was typed before"
            if pattern(text).fullmatch(self._printed.rstrip("\n") + "\n") is None:
                raise Mismatch(f"{block.place} shows\n{text}\nbut it printed\n{self._printed}")
        else:
            raise AssertionError(f"{block.place}: a block that nobody follows; say `file: NAME`, or show it otherwise")

    def _here(self, text: str) -> str:
        for there, here in self._replaced.items():
            text = re.sub(rf"(?<!\w){re.escape(there)}(?!\w)", here, text)
        return text
