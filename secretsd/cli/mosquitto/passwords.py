"""Mosquitto's password file: `user:$7$iterations$salt$hash`, PBKDF2-HMAC-SHA512 as mosquitto_passwd makes it.

Made here and not by mosquitto_passwd, which takes a password from a terminal or from its command line.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from typing import Final

ITERATIONS: Final = 101
"""Mosquitto's own choice. Generated passwords have 256 bits, so that no number of them matters; the broker, which has
one thread, pays for them at each connection."""
SALT_BYTES: Final = 12
"""The one length that Mosquitto 2.0 takes."""
_HASHED: Final = re.compile(r"\$7\$([1-9][0-9]{0,8})\$([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]+=*)")


def new_password() -> str:
    """Return a random password of 256 bits."""
    return secrets.token_urlsafe(32)


def hashed(password: str, *, salt: bytes | None = None) -> str:
    """Return what stands in the password file for `password`; `salt` is random, 12 bytes, unless given."""
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def matches(stored: str, password: str) -> bool:
    """Tell whether `stored` was made of `password`; other kinds of hashes than ours match nothing."""
    found = _HASHED.fullmatch(stored)
    if found is None:
        return False
    try:
        salt, digest = base64.b64decode(found[2], validate=True), base64.b64decode(found[3], validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(hashlib.pbkdf2_hmac("sha512", password.encode(), salt, int(found[1])), digest)


def read(text: str) -> dict[str, str]:
    """Return the hash of each user in a password file."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def written(text: str, ours: Mapping[str, str]) -> str:
    """Return a password file in which our users have these hashes and all other lines are as they were."""
    others = [line for line in text.splitlines() if line.partition(":")[0] not in ours]
    return "".join(f"{line}\n" for line in [*others, *(f"{user}:{stored}" for user, stored in ours.items())])
