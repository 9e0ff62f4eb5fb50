"""How far this client has followed the vault, and whether the bus vouches for it now.

Pure: no I/O; times are monotonic seconds handed in, randomness too. *Applied* is the generation of the last
`/changes` answer and of nothing else (rule 3). A checkpoint vouches when it is of the session that this
answer named, tells of nothing beyond applied, and is young by its own `uptime_ms` (rule 5).
"""

import math
from collections.abc import Callable

from secretsd_client._model import Changes, Checkpoint

INTERVALS = 3
"""A checkpoint is good for so many intervals."""


class History:
    """Epoch, applied, the daemon's session, the last checkpoint, and when to ask `/changes`."""

    def __init__(self, *, random: Callable[[], float]) -> None:
        self._random = random
        self.vouched_until = -math.inf
        """Until then whatever nothing newer is known of is current. Read by other threads without a lock."""
        self.vouched_at = -math.inf
        self.interval = 10.0
        self.spread = 0.2
        self.asking = False
        self.ask_at: float | None = None
        self.confirmed_at = -math.inf
        """When the question was asked whose answer we go by."""
        self._answered_at = -math.inf
        self._poll_every: float | None = None
        self._polled_at = -math.inf
        self._poll_jitter = 0.0
        self._not_before = -math.inf
        self._asked_at = -math.inf
        self._identity_after = -math.inf
        self._latest: tuple[Checkpoint, float] | None = None
        self._answer: Changes | None = None

    @property
    def epoch(self) -> str | None:
        """The epoch that /changes last gave, None before the first and after it is gone."""
        return None if self._answer is None else self._answer.epoch

    @property
    def applied(self) -> int:
        """The generation that /changes last gave; -1 when there is none."""
        return -1 if self._answer is None else self._answer.generation

    @property
    def since(self) -> str | None:
        """What to ask `/changes` since; None asks for everything."""
        return None if self._answer is None else f"{self._answer.epoch}:{self._answer.generation}"

    # What arrives on the bus

    def checkpoint(self, seen: Checkpoint, now: float) -> bool:
        """Take in a verified checkpoint; return whether it is of the present (False: replayed or delayed)."""
        self._latest = (seen, now)
        return self._judge(seen, now, now)

    def session(self, session: int, now: float) -> bool:
        """Take in a session named by a verified status; return whether it isn't an old one."""
        if self._answer is not None and session > self._answer.session:
            self.another_identity(now)
        return self._answer is None or session >= self._answer.session

    def another_identity(self, now: float) -> None:
        """Another epoch or a newer session was named: ask, at most once per interval (rule 3)."""
        if self._answer is not None and now >= self._identity_after:
            self._identity_after = now + self.interval
            self._ask_spread(now)

    def _judge(self, seen: Checkpoint, received_at: float, now: float) -> bool:
        answer = self._answer
        if answer is None:
            return True  # judged again when /changes has answered
        if seen.epoch != answer.epoch or seen.session > answer.session:
            self.another_identity(now)
            return True
        # While a question is under way its answer may be past this already; then `answered` judges it again.
        if seen.generation > answer.generation and received_at >= self._asked_at and not self.asking:
            self._ask_spread(now)
        if seen.session != answer.session:
            return False
        # A checkpoint is as old as its uptime says, measured from the answer; a broker that held it back
        # or repeats it gains nothing. The minimum is for a clock of ours that stood still in a suspend.
        made_at = min(now, self._answered_at + (seen.uptime_ms - answer.uptime_ms) / 1000)
        if made_at + INTERVALS * seen.interval_secs <= now:
            return False
        self.interval = seen.interval_secs
        if seen.generation <= answer.generation and made_at >= self.vouched_at:
            self.vouched_at = made_at
            self.vouched_until = made_at + INTERVALS * seen.interval_secs
            self._poll_jitter = self._random() * self.interval
        return True

    # When to ask /changes

    def demand(self, at: float) -> None:
        """Ask then or as soon after as possible, and once more if a question is under way already (rule 1)."""
        self._ask(at)

    def _ask_spread(self, now: float) -> None:
        self._ask(now + self._random() * self.spread)

    def _ask(self, at: float) -> None:
        self.ask_at = at if self.ask_at is None else min(self.ask_at, at)

    def poll(self, every: float | None, now: float) -> None:
        """Ask every so many seconds while nothing vouches, counted from now; None: don't."""
        if every != self._poll_every:
            self._poll_every, self._polled_at = every, now

    def next_ask(self) -> float | None:
        """Return when `/changes` is to be asked; None when an answer is awaited or nothing calls for one."""
        if self.asking:
            return None
        at = self.ask_at
        if self._poll_every is not None:
            lapse = max(self._polled_at + self._poll_every, self.vouched_until + self._poll_jitter)
            at = lapse if at is None else min(at, lapse)
        return None if at is None else max(at, self._not_before)

    def begin(self, now: float) -> None:
        """Note that `/changes` is being asked."""
        self.asking, self.ask_at, self._asked_at = True, None, now

    def failed(self, retry_at: float) -> None:
        """Note that `/changes` wasn't answered: ask again then, not before, whatever else calls for it."""
        self.asking, self.ask_at, self._not_before = False, retry_at, retry_at

    def answered(self, answer: Changes, now: float) -> None:
        """Go by this answer of `/changes` from now on."""
        self.asking = False
        self._answer, self._answered_at, self._polled_at = answer, now, now
        self.confirmed_at = self._asked_at
        if self._latest is None:
            return
        seen, received_at = self._latest
        short = seen.epoch == answer.epoch and seen.generation > answer.generation
        if short and received_at < self._asked_at:
            # The daemon answers with less than it had announced before: somebody set it back in place. It is
            # asked again, but no faster than it announces things.
            self._not_before = now + self.interval
        self._judge(seen, received_at, now)

    def forget(self, now: float) -> None:
        """Another epoch, or a history that is gone (410): start over, and ask for everything."""
        self.asking, self._answer = False, None
        self.vouched_until = self.vouched_at = -math.inf
        self.demand(now)
