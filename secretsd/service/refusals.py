"""Refusals: each is audited, none fills the disk, and guessing is slow (docs/http.md).

The first refusals get a line each. Once a burst is spent they are counted, and lines with a `count` follow at a
steady pace, so that what somebody sends from outside never decides how much is written.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from secretsd_bus.payloads import Refused

from secretsd.audit.log import Entry
from secretsd.model import AuthKind

BURST: Final = 20
REFILL_PER_SECOND: Final = 1.0
FOLD_SECONDS: Final = 5
KINDS_MOST: Final = 20
"""Distinct refusals that are kept apart while folding; what is beyond them shares one line without names."""

FREE_FAILURES: Final = 5
FORGET_SECONDS: Final = 60
DELAY_MOST_SECONDS: Final = 2.0
WAITING_MOST: Final = 64
PEERS_MOST: Final = 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is audited of a refused request. `client` and `name` are None unless policy and vault know them."""

    type: str
    client: str | None
    auth: AuthKind | None
    action: str
    name: str | None
    reason: str
    peer: str

    def entry(self, *, count: int, request_id: str | None) -> Entry:
        """Return the audit line for `count` such refusals; `request_id` is that of a single one."""
        refused = Refused(
            client=self.client,
            auth=self.auth,
            action=self.action,
            name=self.name,
            outcome="denied" if self.type == "access.denied" else "failed",
            reason=self.reason,
            peer=self.peer,
            request_id=request_id,
            count=count,
        )
        return Entry(self.type, self.name, refused.data())


class RefusalFolder:
    """Decides which refusals get a line at once and gathers the others. Pure: time comes in."""

    def __init__(self) -> None:
        self._allowance = float(BURST)
        self._refilled_at = 0.0
        self._folded: OrderedDict[Refusal, int] = OrderedDict()

    def take(self, refusal: Refusal, now_seconds: float) -> bool:
        """Tell whether `refusal` gets a line of its own now; otherwise it is counted."""
        self._refill(now_seconds)
        if self._allowance >= 1:
            self._allowance -= 1
            return True
        if refusal not in self._folded and len(self._folded) >= KINDS_MOST:
            refusal = replace(
                refusal,
                client=None,
                auth=None,
                name=None,
                action="any",
                reason="many different refusals",
                peer="several",
            )
        self._folded[refusal] = self._folded.get(refusal, 0) + 1
        return False

    def drain(self) -> dict[Refusal, int]:
        """Return what was gathered since the last time, with its counts."""
        folded = dict(self._folded)
        self._folded.clear()
        return folded

    def put_back(self, folded: dict[Refusal, int]) -> None:
        """Go on counting from what could not be written."""
        for refusal, count in folded.items():
            self._folded[refusal] = self._folded.get(refusal, 0) + count

    def _refill(self, now_seconds: float) -> None:
        earned = max(0.0, now_seconds - self._refilled_at) * REFILL_PER_SECOND
        self._allowance = min(float(BURST), self._allowance + earned)
        self._refilled_at = now_seconds


def peer_group(address: str) -> str:
    """Return whom a failure is counted against: this machine has 16 million addresses, an IPv6 network many more."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return "loopback"
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Brake:
    """How long a peer waits for the answer to a wrong credential. Pure: time comes in.

    Peers that prove themselves aren't slowed, so nobody can lock others out from the same address.
    """

    def __init__(self) -> None:
        self._peers: OrderedDict[str, _Failures] = OrderedDict()
        self._waiting = 0

    def failed(self, peer: str, now_seconds: float) -> float:
        """Return the seconds that this failure of `peer` costs: none for the first ones, then doubling."""
        known = self._peers.pop(peer, None)
        if known is None or now_seconds - known.last > FORGET_SECONDS:
            known = _Failures(0, now_seconds)
        known.count += 1
        known.last = now_seconds
        self._peers[peer] = known
        if len(self._peers) > PEERS_MOST:
            self._peers.popitem(last=False)
        excess = known.count - FREE_FAILURES
        return 0.0 if excess <= 0 else min(DELAY_MOST_SECONDS, 0.05 * 2 ** min(excess - 1, 10))

    def enter(self) -> bool:
        """Take a place among those who wait; False when there are too many, who then get `too-many-requests`."""
        if self._waiting >= WAITING_MOST:
            return False
        self._waiting += 1
        return True

    def leave(self) -> None:
        """Give the place back."""
        self._waiting -= 1
