"""Keys for one purpose each, derived from the master key."""

from __future__ import annotations

from typing import Final, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secretsd.crypto.sensitive import Sensitive

KEY_BYTES: Final = 32

Purpose = Literal["value", "vault-mac", "request-fingerprint", "recovery-check"]


def derive(master: Sensitive, purpose: Purpose, vault_id: str, data_key: str | None = None) -> Sensitive:
    """Return the 32-byte key for `purpose` in the vault `vault_id`: HKDF-SHA256 (RFC 5869).

    The label binds product, format and purpose, so that no two uses share a key; the vault's id as salt
    keeps two vaults apart that were made from one master key. `data_key` is the random id that a rotation of the
    data keys makes anew: another id, other keys; None stands for the keys of format 1.
    """
    label = f"jarvis-secretsd/1/{purpose}" if data_key is None else f"jarvis-secretsd/2/{purpose}/{data_key}"
    hkdf = HKDF(
        algorithm=SHA256(),
        length=KEY_BYTES,
        salt=vault_id.encode("ascii"),
        info=label.encode("ascii"),
    )
    return Sensitive(hkdf.derive(master.reveal()))
