"""Whose Unix socket is this? A client that asks the wrong process for its secrets gets wrong secrets."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

DEFAULT_SOCKET = Path("/run/jarvis-secretsd/secretsd.sock")


def doubt(path: Path) -> str | None:
    """Return why the socket at `path` isn't to be trusted, or None when it is (section 4, rule 7).

    Trusted are sockets of root and of the caller's own user. A daemon with a user of its own is vouched for
    by root: its socket lies in a folder of that same user, into which nobody else writes, and every folder
    above is root's (or the caller's) and closed to others. So systemd makes `/run/jarvis-secretsd`.
    """
    trusted = {0, os.geteuid()}
    try:
        real = path.resolve(strict=True)
        socket = real.stat()
        if not stat.S_ISSOCK(socket.st_mode):
            return f"{path} is not a socket"
        if socket.st_uid in trusted:
            return None
        folder = real.parent.stat()
        if folder.st_uid != socket.st_uid or _open_to_others(folder):
            return f"{path} belongs to uid {socket.st_uid}, neither root nor you, in a folder that isn't closed"
        for above in _ancestors(real.parent):
            if above.st_uid not in trusted or _open_to_others(above):
                return f"{path} belongs to uid {socket.st_uid} below a folder that others than root may change"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def _ancestors(folder: Path) -> Iterator[os.stat_result]:
    return (above.stat() for above in folder.parents)


def _open_to_others(folder: os.stat_result) -> bool:
    return bool(folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def usable_default() -> Path | None:
    """Return the packaged daemon's socket where there is one that this process may use and can trust."""
    if os.access(DEFAULT_SOCKET, os.R_OK | os.W_OK) and doubt(DEFAULT_SOCKET) is None:
        return DEFAULT_SOCKET
    return None
