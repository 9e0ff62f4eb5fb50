"""The same answer from /proc/net/tcp and tcp6, for sandboxes without netlink.

All connections of the machine are read to find one: a millisecond for some thousands. A line
(proc_pid_net(5)):

    sl: LOCAL_ADDRESS:PORT REMOTE_ADDRESS:PORT STATE tx:rx timer:when retransmits UID timeout INODE …
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from secretsd.auth.endpoint import Endpoint, mapped

PROC_NET: Final = Path("/proc/net")

_ESTABLISHED: Final = b"01"


def owner(here: Endpoint, there: Endpoint, folder: Path = PROC_NET) -> int | None:
    """Return the uid that owns the established socket from `here` to `there`, None where there is none."""
    if len(here.packed) == 4:
        found = _search(folder / "tcp", here, there)
        if found is not None:
            return found
    return _search(
        folder / "tcp6", Endpoint(mapped(here.packed), here.port), Endpoint(mapped(there.packed), there.port)
    )


def _search(table: Path, here: Endpoint, there: Endpoint) -> int | None:
    wanted = b": " + _written(here) + b" " + _written(there) + b" " + _ESTABLISHED + b" "
    try:
        content = table.read_bytes()
    except OSError:
        return None
    start = content.find(wanted)
    if start < 0:
        return None
    fields = content[start : content.find(b"\n", start)].split()
    uid, inode = int(fields[7]), int(fields[9])
    return uid if inode != 0 else None


def _written(one: Endpoint) -> bytes:
    """Return the end as the kernel writes it: each 32-bit word of the address as a native number, in hex."""
    words = struct.unpack(f"={len(one.packed) // 4}I", one.packed)
    return ("".join(f"{word:08X}" for word in words) + f":{one.port:04X}").encode("ascii")
