"""Messages as somebody might make them up: a real one changed, and signed by whatever key is at hand."""

from __future__ import annotations

import json
from typing import Any

from secretsd_bus import SigningKey, b64url_encode, canonical


def resign(payload: bytes, key: SigningKey, *, keyid: str | None = None, **data: Any) -> bytes:
    """Return the event with members of `data` replaced, signed by `key`; `keyid` claims another signer."""
    event = json.loads(payload)
    event.pop("signature", None)
    event["data"].update(data)
    event["keyid"] = keyid or key.keyid
    return canonical.encode({**event, "signature": b64url_encode(key.sign(canonical.encode(event)))})


def unsigned(payload: bytes, **data: Any) -> bytes:
    """Return the event with members of `data` replaced and no signature."""
    event = json.loads(payload)
    event.pop("signature", None)
    event["data"].update(data)
    return canonical.encode(event)


def changed_after_signing(payload: bytes, **data: Any) -> bytes:
    """Return the event with members of `data` replaced under its old signature."""
    event = json.loads(payload)
    event["data"].update(data)
    return canonical.encode(event)
