"""Listening sockets, had before any file is touched: a second daemon stops here."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secretsd.config import Address, Config
from secretsd.errors import ListenError

BACKLOG: Final = 1024
_SOCKET_MODE: Final = 0o660
_MOST_PATH_BYTES: Final = 107


@dataclass
class Listeners:
    """The sockets that are listened on; connections wait in their backlog until they are served."""

    tcp: socket.socket
    unix: socket.socket | None = None
    unix_path: Path | None = None
    unix_inode: int | None = None

    def close(self) -> None:
        """Close them, and take the Unix socket's file away if it is still ours."""
        self.tcp.close()
        if self.unix is not None:
            self.unix.close()
        if self.unix_path is not None:
            with contextlib.suppress(OSError):
                if self.unix_path.lstat().st_ino == self.unix_inode:
                    self.unix_path.unlink()
            self.unix_path = None


def bind(config: Config) -> Listeners:
    """Return the sockets that `config` names, listening. Raises ListenError where one can't be had."""
    listeners = Listeners(bind_tcp(config.server.bind_addr))
    if config.server.allow_unix_socket:
        try:
            path = config.server.unix_socket_path
            listeners.unix = bind_unix(path)
            listeners.unix_path, listeners.unix_inode = path, path.lstat().st_ino
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


def bind_unix(path: Path) -> socket.socket:
    """Return a Unix socket that listens at `path`, mode 0660, replacing one that nobody answers on.

    Raises ListenError. The folder is made (0755) if only it is missing, as under /run after a boot.
    """
    if len(os.fsencode(path)) > _MOST_PATH_BYTES:
        raise ListenError(f"server.unix_socket_path: at most {_MOST_PATH_BYTES} bytes long")
    try:
        if not path.parent.exists():
            path.parent.mkdir()
            path.parent.chmod(0o755)
        _clear(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # The mode has to be right from the first moment. There is one thread as yet: the umask is ours.
        old_umask = os.umask(0o777 & ~_SOCKET_MODE)
        try:
            listener.bind(os.fspath(path))
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        finally:
            os.umask(old_umask)
    except OSError as error:
        raise ListenError(f"server.unix_socket_path {path}: {_why(error)}") from error
    return listener


def _clear(path: Path) -> None:
    """Remove a socket that a dead daemon left behind; raises ListenError for anything else that is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"server.unix_socket_path {path}: something that isn't a socket is there; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass
    raise ListenError(f"server.unix_socket_path {path}: another process listens there; is a daemon running?")


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
