"""Listening sockets, had before any file is touched: a second daemon stops here."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from secretsd.api import activation
from secretsd.config import MOST_SOCKET_PATH_BYTES, Address, Config
from secretsd.errors import ListenError

BACKLOG: Final = 1024
_SOCKET_MODE: Final = 0o660


@dataclass(frozen=True, slots=True)
class OwnSocket:
    """The Unix socket of one client, and its file."""

    socket: socket.socket
    path: Path
    inode: int

    def close(self) -> None:
        """Close it, and take its file away if it is still ours."""
        self.socket.close()
        _unlink(self.path, self.inode)


@dataclass
class Listeners:
    """The sockets that are listened on; connections wait in their backlog until they are served.

    `unix_path` is the file of a Unix socket that we made ourselves.
    """

    tcp: socket.socket
    unix: socket.socket | None = None
    unix_path: Path | None = None
    unix_inode: int | None = None
    own: dict[Path, OwnSocket] = field(default_factory=dict)
    """Clients' own sockets, by path."""

    def bind_own(self, paths: Collection[Path]) -> None:
        """Listen on those of `paths` that aren't listened on yet; on all or, with ListenError, on none of them."""
        made: dict[Path, OwnSocket] = {}
        try:
            for path in sorted(set(paths) - self.own.keys()):
                listener = bind_unix(path, "auth: socket")
                made[path] = OwnSocket(listener, path, path.lstat().st_ino)
        except BaseException:
            for one in made.values():
                one.close()
            raise
        self.own |= made

    def release_own(self, keep: Collection[Path]) -> None:
        """Close clients' own sockets but those in `keep`."""
        for path in self.own.keys() - set(keep):
            self.own.pop(path).close()

    def close(self) -> None:
        """Close them, and take the Unix socket's file away if it is still ours."""
        self.tcp.close()
        if self.unix is not None:
            self.unix.close()
        if self.unix_path is not None:
            _unlink(self.unix_path, self.unix_inode)
            self.unix_path = None
        self.release_own(())


def bind(config: Config, own: Collection[Path] = ()) -> Listeners:
    """Return the sockets that `config` names, listening, and clients' `own`: those passed to us, and else ours.

    Raises ListenError where one can't be had.
    """
    passed = activation.take(config)
    try:
        tcp = passed.tcp or bind_tcp(config.server.bind_addr)
    except BaseException:
        if passed.unix is not None:
            passed.unix.close()
        raise
    listeners = Listeners(tcp, passed.unix)
    try:
        if config.server.allow_unix_socket and listeners.unix is None:
            path = config.server.unix_socket_path
            listeners.unix = bind_unix(path)
            listeners.unix_path, listeners.unix_inode = path, path.lstat().st_ino
        listeners.bind_own(own)
    except BaseException:
        listeners.close()
        raise
    return listeners


def bind_tcp(address: Address) -> socket.socket:
    """Return a TCP socket that listens on `address`. Raises ListenError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        # With SO_REUSEADDR it is listening, not binding, that makes the address ours alone.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"server.bind_addr {address}: {_why(error)}") from error
    return listener


def bind_unix(path: Path, setting: str = "server.unix_socket_path") -> socket.socket:
    """Return a Unix socket that listens at `path`, mode 0660, replacing one that nobody answers on.

    `setting` is where messages say that the path comes from. Raises ListenError. The folder is made (0755) if only
    it is missing, as under /run after a boot.
    """
    if len(os.fsencode(path)) > MOST_SOCKET_PATH_BYTES:
        raise ListenError(f"{setting}: at most {MOST_SOCKET_PATH_BYTES} bytes long")
    try:
        if not path.parent.exists():
            path.parent.mkdir()
            path.parent.chmod(0o755)
        _clear(path, setting)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.bind(os.fspath(path))
            # Until it listens nobody can connect, whatever the umask made of its mode.
            path.chmod(_SOCKET_MODE)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ListenError(f"{setting} {path}: {_why(error)}") from error
    return listener


def _unlink(path: Path, inode: int | None) -> None:
    """Take a socket's file away if it is still the one of this inode."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def _clear(path: Path, setting: str) -> None:
    """Remove a socket that a dead daemon left behind; raises ListenError for anything else that is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{setting} {path}: something that isn't a socket is there; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass
    raise ListenError(f"{setting} {path}: another process listens there; is a daemon running?")


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "taken by another process; is a daemon running? (`ss -ltnp` shows it)"
        case errno.EADDRNOTAVAIL:
            return "no address of this machine"
        case errno.EACCES | errno.EPERM:
            return "not permitted (ports below 1024 need CAP_NET_BIND_SERVICE; a socket needs a writable folder)"
        case _:
            return os.strerror(error.errno) if error.errno else type(error).__name__
