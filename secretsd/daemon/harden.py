"""What the process gives up before it holds a secret. Linux; what the machine doesn't allow is left, and logged."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
from typing import Final

from secretsd import dumps

log = logging.getLogger(__name__)

_PR_SET_NO_NEW_PRIVS: Final = 38
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_LOCKED_MOST: Final = 512 * 1024 * 1024


def harden() -> None:
    """No core dumps, no ptrace by the same user, no new privileges, private files, memory kept out of swap.

    And as many descriptors as the limits allow, since each connection is one.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _raise_open_files()
    libc = ctypes.CDLL(None, use_errno=True)
    dumpable = dumps.forbid()
    if dumpable is not None:
        log.warning("hardening: core dumps and ptrace not restricted: %s", dumpable)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        log.warning("hardening: privileges not restricted: %s", os.strerror(ctypes.get_errno()))
    _lock_memory(libc)


def _raise_open_files() -> None:
    """Take as many descriptors as we may have: each waiting client is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _lock_memory(libc: ctypes.CDLL) -> None:
    """Lock pages as they are touched, where the limit leaves room: a lock that fails later would end the daemon."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and soft < _LOCKED_MOST and os.geteuid() != 0:
        if hard == resource.RLIM_INFINITY or hard >= _LOCKED_MOST:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        else:
            log.debug("hardening: memory not locked: RLIMIT_MEMLOCK is %d", hard)
            return
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        log.debug("hardening: memory not locked: %s", os.strerror(ctypes.get_errno()))
