"""From a TOML value to a typed one. A parser raises ValueError whose text says what is allowed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from secretsd.config.reader import kind_of, shown
from secretsd.config.values import MOST_SOCKET_PATH_BYTES, Address
from secretsd.model import DAY_MS, is_name, is_pattern, parse_duration

ChoiceT = TypeVar("ChoiceT", bound=str)

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def boolean(value: object) -> bool:
    """Return a boolean; 0, 1 and "true" are none."""
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def integer(least: int, most: int) -> Callable[[object], int]:
    """Return a parser of integers from `least` to `most`."""

    def parse(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise ValueError(f"a whole number from {least} to {most}")

    return parse


def choice(*allowed: ChoiceT) -> Callable[[object], ChoiceT]:
    """Return a parser that takes one of `allowed`."""

    def parse(value: object) -> ChoiceT:
        for one in allowed:
            if value == one:
                return one
        raise ValueError(" or ".join(f'"{one}"' for one in allowed))

    return parse


def path_from(folder: Path) -> Callable[[object], Path]:
    """Return a parser of paths; a relative one starts at `folder`."""

    def parse(value: object) -> Path:
        if isinstance(value, str) and value and not _CONTROL.search(value) and not value.startswith("~"):
            path = folder / value
            if path.name not in ("", ".."):
                return path
        raise ValueError("a path, absolute or relative to the folder of config.toml (~ stands for nothing here)")

    return parse


def socket_path_from(folder: Path) -> Callable[[object], Path]:
    """Return a parser of paths at which a Unix socket can be made; a relative one starts at `folder`."""
    path = path_from(folder)

    def parse(value: object) -> Path:
        taken = path(value)
        if len(os.fsencode(taken)) > MOST_SOCKET_PATH_BYTES:
            raise ValueError(f"a path of at most {MOST_SOCKET_PATH_BYTES} bytes, counted from /")
        return taken

    return parse


def optional_path_from(folder: Path) -> Callable[[object], Path | None]:
    """Return a parser of paths to which "" means none."""
    path = path_from(folder)

    def parse(value: object) -> Path | None:
        try:
            return None if value == "" else path(value)
        except ValueError as error:
            raise ValueError(f'{error}, or "" for none') from None

    return parse


def optional_text(value: object) -> str | None:
    """Return a string without control characters, None for ""."""
    if not isinstance(value, str) or len(value) > 1024 or _CONTROL.search(value):
        raise ValueError('a string without control characters, or "" for none')
    return value or None


def text(value: object) -> str:
    """Return a string; what it may hold is checked where it is used."""
    if not isinstance(value, str) or not value:
        raise ValueError("a string, not empty")
    return value


def name(value: object) -> str:
    """Return a name as secrets and nodes have them."""
    if isinstance(value, str) and is_name(value):
        return value
    raise ValueError("letters, digits, dot, underscore, hyphen; a letter or digit first; at most 128")


def optional_name(value: object) -> str | None:
    """Return a name as secrets have them, None for ""."""
    return None if value == "" else name(value)


def patterns(value: object) -> tuple[str, ...]:
    """Return names and globs of secrets; an empty array is none."""
    refusal = ValueError('an array of names and globs, as in ["postgres_*", "jwt_signing_key"]; [] for none')
    if not isinstance(value, (list, tuple)):
        raise refusal
    taken: list[str] = []
    for one in value:
        if not isinstance(one, str) or not is_pattern(one):
            raise refusal
        taken.append(one)
    return tuple(dict.fromkeys(taken))


def days(least: int) -> Callable[[object], int]:
    """Return a parser of whole days, at least `least`, to milliseconds."""
    count = integer(least, 36_500)
    return lambda value: count(value) * DAY_MS


def duration(least_ms: int) -> Callable[[object], int | None]:
    """Return a parser of durations to milliseconds, None for "never"; shorter than `least_ms` is refused."""

    def parse(value: object) -> int | None:
        if not isinstance(value, str):
            raise ValueError(  # noqa: TRY004  # the one error of parsers
                'a string: a number and a unit ("90d", "12h", "30m", "45s") or "never"'
            )
        milliseconds = parse_duration(value)
        if milliseconds is not None and milliseconds < least_ms:
            raise ValueError(f'at least "{least_ms // 1000}s"')
        return milliseconds

    return parse


def address(value: object) -> Address:
    """Return where to listen: "127.0.0.1:8081", "[::1]:8081" or "localhost:8081" (which is 127.0.0.1).

    Other host names are refused: what they resolve to decides whether the daemon is exposed, and can change.
    """
    refusal = ValueError('an IP address and a port, as in "127.0.0.1:8081" or "[::1]:8081"')
    if not isinstance(value, str):
        raise refusal
    host, _, digits = value.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", digits) or int(digits) > 65_535:
        raise refusal
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if host == "localhost" and not bracketed:
        host = "127.0.0.1"
    try:
        version = ip_address(host).version
    except ValueError:
        raise refusal from None
    if (version == 6) is not bracketed:
        raise refusal
    return Address(host, int(digits))


def host_names(value: object) -> tuple[str, ...]:
    """Return the names that a Host header may carry, in lower case, without port."""
    allowed = 'an array of host names or IP addresses without scheme and port, as in ["vault.lan"]'
    if not isinstance(value, (list, tuple)):
        raise ValueError(allowed)  # noqa: TRY004  # the one error of parsers
    names = []
    for place, one in enumerate(value, 1):
        lowered = one.lower() if isinstance(one, str) else ""
        if lowered.startswith("[") and lowered.endswith("]") and _is_ip(lowered[1:-1]):
            lowered = lowered[1:-1]  # as a Host header has it
        if not _HOST.match(lowered) and not _is_ip(lowered):
            given = shown(one) if isinstance(one, str) and "@" not in one else kind_of(one)
            raise ValueError(f"{allowed}; member {place}, {given}, is none of them")
        names.append(lowered.removesuffix("."))
    return tuple(dict.fromkeys(names))


def _is_ip(text_: str) -> bool:
    try:
        ip_address(text_)
    except ValueError:
        return False
    return True
