"""git, asked for a repository's objects and commits. It is given object ids and options only, never a value."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from secretsd.cli.errors import Failed

CHUNK_BYTES: Final = 1024 * 1024
_PASSED_ON: Final = ("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR")

# A repository's own configuration is somebody else's: nothing that it names is run, and nothing is fetched. So it may
# be another user's too (safe.directory): root moves in what belongs to a service.
_QUIET: Final = (
    "--no-pager", "-c", "log.showSignature=false", "-c", "log.showRoot=true",
    "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true",
    "-c", "core.hooksPath=/dev/null",
)  # fmt: skip


@dataclass(frozen=True)
class Object:
    """A git object as it is read; `chunks` gives its content once."""

    oid: str
    kind: str
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Commit:
    """A commit with the blobs that it introduced: pairs of object id and path."""

    oid: str
    date: str
    blobs: Sequence[tuple[str, str]]


def have_git() -> bool:
    """Tell whether there is a git to ask."""
    return shutil.which("git") is not None


class Repository:
    """A repository by its git folder."""

    def __init__(self, git_folder: Path) -> None:
        self.git_folder = git_folder

    @property
    def name(self) -> str:
        """Where it is, as its user calls it: the folder with the work tree, else the git folder."""
        return str(self.git_folder.parent if self.git_folder.name == ".git" else self.git_folder)

    @classmethod
    def around(cls, path: Path) -> Repository | None:
        """Return the repository that `path` lies in or is; None where there is none. Raises Failed."""
        folder = path if path.is_dir() else path.parent
        done = _run(["git", *_QUIET, "-C", str(folder), "rev-parse", "--git-common-dir"])
        if done.returncode == 0:
            return cls((folder / os.fsdecode(done.stdout.rstrip(b"\n"))).resolve())
        if b"not a git repository" not in done.stderr:
            raise Failed(
                f"git can't look into the repository around {path}",
                hint=f"what it says: git -C {shlex.quote(str(folder))} status",
            )
        return None

    def objects(self) -> Iterator[Object]:
        """Yield every object, packed or loose, whether a ref reaches it or not. Raises Failed when git fails."""
        options = ("cat-file", "--batch", "--batch-all-objects", "--unordered", "--buffer")
        with self._piped(*options) as (stream, finish):
            while header := stream.readline():
                words = header.decode("ascii", "replace").split()
                if len(words) != 3 or not words[2].isdecimal():
                    raise Failed(f"git can't read an object of {self.name}", hint="look with: git fsck")
                content = _content(stream, int(words[2]))
                yield Object(words[0], words[1], content)
                for _ in content:
                    pass  # what the reader left
                stream.read(1)
            finish()

    def commits(self, *which: str) -> Iterator[Commit]:
        """Yield the commits that `which` options select, newest first, with the blobs each one introduced."""
        options = ("log", *which, "-m", "--raw", "--no-abbrev", "--no-renames", "--format=%x00%H %cI")
        with self._piped(*options) as (stream, finish):
            oid, date, blobs = "", "", list[tuple[str, str]]()
            for line in stream:
                if line.startswith(b"\0"):
                    if oid:
                        yield Commit(oid, date, blobs)
                    oid, _, date = line[1:].decode("ascii", "replace").strip().partition(" ")
                    blobs = []
                elif line.startswith(b":"):
                    about, _, path = line.rstrip(b"\n").partition(b"\t")
                    blobs.append((about.split()[3].decode("ascii", "replace"), _unquoted(path)))
            if oid:
                yield Commit(oid, date, blobs)
            finish()

    def ignores(self, path: Path) -> bool:
        """Tell whether .gitignore (or another exclude file) covers `path`."""
        # `./`: a name may begin with a colon, which has a meaning of its own.
        command = ["git", *_QUIET, "-C", str(path.parent), "check-ignore", "-q", "--no-index", "--", f"./{path.name}"]
        return _run(command).returncode == 0

    def tracks(self, path: Path) -> bool:
        """Tell whether `path` is in the index, so that each commit takes it along."""
        command = [
            "git",
            "--literal-pathspecs",
            *_QUIET,
            "-C",
            str(path.parent),
            "ls-files",
            "--error-unmatch",
            "--",
            path.name,
        ]
        return _run(command).returncode == 0

    def _piped(self, *arguments: str) -> _Pipe:
        return _Pipe(["git", *_QUIET, f"--git-dir={self.git_folder}", *arguments], self.name)


class _Pipe:
    """A git whose output is read as it comes; leaving early ends it."""

    def __init__(self, command: Sequence[str], name: str) -> None:
        self._command = command
        self._name = name

    def __enter__(self) -> tuple[IO[bytes], Callable[[], None]]:
        self._process = subprocess.Popen(  # noqa: S603 — a fixed program, no shell
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        assert self._process.stdout is not None  # noqa: S101 — PIPE was asked for
        return self._process.stdout, self._finish

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _finish(self) -> None:
        if self._process.wait() != 0:
            raise Failed(f"git could not read all of {self._name}", hint="look with: git fsck")


def _unquoted(path: bytes) -> str:
    """Return a path that git quotes, as C would, where it has odd characters: a value would hide behind that."""
    if path.startswith(b'"'):
        path = path[1:-1].decode("unicode_escape").encode("latin-1")
    return os.fsdecode(path)


def _content(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := stream.read(min(size, CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, check=False, env=_environment())  # noqa: S603 — as above


def _environment() -> Mapping[str, str]:
    """Return what git is given: nothing that names another repository, and none of our credentials."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed_on | {
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
