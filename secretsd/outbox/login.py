"""How the daemon logs in at the broker: with a password of the vault that rotates under it, or with a file's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from secretsd_bus import BusLost, BusRejected, Link, Message, Will

from secretsd.config import Bus
from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import AuditWriteError, SealError
from secretsd.vault.document import SecretRecord

WRONG_PASSWORD: Final = frozenset({0x86, 0x87})
"""Bad user name or password, not authorised: with another password it may be different."""

Candidates = Callable[[], Awaitable[Sequence[tuple[str, Sensitive]]]]


class Login:
    """Connects with the first password that the broker takes.

    A rotation changes the password at the broker some moments before it is current here, and after a crash nobody knows
    which of the two the broker has: so the vault's candidates are tried in turn (docs/broker.md).
    The file comes last: it is what there was before the secret, and a way in when the vault is an older one.
    """

    def __init__(self, bus: Bus, candidates: Candidates) -> None:
        self._bus = bus
        self._candidates = candidates
        self._judged: frozenset[str] = frozenset()
        """What the last connection was made with, and what was current then: that was refused, or is the same."""

    async def connect(self, client_id: str, will: Will, on_message: Callable[[Message], None]) -> Link:
        """Return a connection. Raises what Link.connect raises, and BusLost when no password can be opened."""
        settings = self._bus.settings()
        try:
            known = [(kid, _text(value)) for kid, value in await self._candidates()]
        except (AuditWriteError, SealError) as error:
            raise BusLost(f"the password of the daemon can't be opened: {error}") from error
        tries: list[tuple[str | None, str | None]] = [*known]
        if self._bus.password_file is not None or not tries:
            tries.append((None, None))
        refusal: BusRejected | None = None
        for kid, password in tries:
            try:
                link = await Link.connect(
                    settings, client_id=client_id, password=password, will=will, on_message=on_message
                )
            except BusRejected as error:
                if error.reason_code not in WRONG_PASSWORD:
                    raise
                refusal = refusal or error
            else:
                self._judged = frozenset(one for one in (kid, known[0][0] if known else None) if one is not None)
                return link
        assert refusal is not None  # noqa: S101 — there is at least one try
        raise refusal

    def concerns(self, names: Collection[str]) -> bool:
        """Tell whether a change of these secrets may change what the broker takes."""
        return self._bus.password_secret in names

    def outdated(self, secrets: Mapping[str, SecretRecord]) -> bool:
        """Tell whether the version that is current now was never tried: neither used nor refused."""
        record = secrets.get(self._bus.password_secret or "")
        return record is not None and record.current.kid not in self._judged


def _text(value: Sensitive) -> str:
    try:
        return value.reveal().decode()
    except UnicodeDecodeError:
        raise ValueError("the secret that bus.password_secret names is no UTF-8 text") from None
