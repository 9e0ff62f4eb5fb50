"""Why a client changes something, in its own words: these go into the signed log and to the bus, so no value may."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterable
from typing import Final

from msgspec import UnsetType

from secretsd.auth import Caller
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem, SealError
from secretsd.model import MAX_REASON
from secretsd.rotation.announce import clean_reason
from secretsd.service.core import Core
from secretsd.vault.document import SecretRecord

SHORTEST: Final = 4
"""Bytes of a value that tell something; "on" stands in many a "rotation"."""
SHORTEST_ANYWHERE: Final = 8
"""Characters of a value that is found within a word too; "test" also stands in "latest"."""


def reason_given(text: str | UnsetType) -> str | None:
    """Return the reason of a request as it is written down."""
    return clean_reason(None if isinstance(text, UnsetType) else text)


def refuse_values(reason: str | None, values: Iterable[Sensitive]) -> None:
    """Return where the reason holds none of the values, be it as text or in base64. Raises `invalid-request`."""
    if reason is not None and any(_stands_in(reason, value) for value in values):
        raise Problem(
            "invalid-request",
            "reason: a value stands in it, and it is written into the audit log and sent to the bus: say why without.",
        )


def held_values(core: Core, caller: Caller, name: str, record: SecretRecord) -> list[Sensitive]:
    """Return the values that are kept of a secret, none where the caller may not read them.

    To who may only write, a refusal would tell that a guess was right.
    """
    found: list[Sensitive] = []
    if core.policy.may(caller.client, "read", name):
        for version in record.sealed:
            with contextlib.suppress(SealError):
                found.append(core.vault.open(name, version))
    return found


def _stands_in(reason: str, value: Sensitive) -> bool:
    """Tell whether a value is in a reason: its text, less what a reason loses, or its base64 in either alphabet."""
    data = value.reveal()
    if len(data) < SHORTEST:
        return False
    # No more than goes into a reason, however long the value is.
    text = (clean_reason(data[: 8 * MAX_REASON].decode("utf-8", "replace")) or "").strip()
    if len(text) >= SHORTEST and _has(reason, text):
        return True
    head = data[: MAX_REASON // 4 * 3]
    # Padding, and a last character that isn't the value's alone, are others where a line break was encoded with it.
    whole = len(head) * 8 // 6
    return any(encode(head).decode()[:whole] in reason for encode in (base64.b64encode, base64.urlsafe_b64encode))


def _has(reason: str, text: str) -> bool:
    if len(text) >= SHORTEST_ANYWHERE:
        return text in reason
    return re.search(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])", reason) is not None
