"""Who may have the memory of a process that holds secrets: no core dump, and nobody of the same user. Linux."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def forbid() -> str | None:
    """Let no core dump be made of this process, nor another one look into it; return why that can't be, else None.

    It holds whatever the limits are, and until another program is executed: what this process starts has its user's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0:
        return None
    return os.strerror(ctypes.get_errno())
