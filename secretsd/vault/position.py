"""How far a vault.json says that it is, read without its key: a claim, until its MAC was checked."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from secretsd.errors import VaultError
from secretsd.vault.document import AuditMark, Codec, PastEpoch


class Position(Struct, frozen=True):
    """Which vault, how far it is, and how far its log was then."""

    vault_id: str
    epoch: str
    generation: int
    audit: AuditMark
    past_epochs: tuple[PastEpoch, ...] = ()

    @property
    def ended(self) -> frozenset[str]:
        """The epochs that were ended before this one."""
        return frozenset(past.epoch for past in self.past_epochs)


def position_in(data: bytes, path: Path) -> Position:
    """Return the position that the bytes of a vault.json claim; `path` is for the messages. Raises VaultError."""
    Codec.preamble(data, path)
    try:
        return msgspec.json.decode(data, type=Position)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise VaultError(f"{path} is not a vault: it is truncated or was edited") from error
