"""A client's state without network, and with a clock that is told what time it is."""

from dataclasses import dataclass, field

from secretsd_client._model import Announcement, Change, Changes, Checkpoint, Fetched, Secret
from secretsd_client._state import State, Times

EPOCH = "epoch-one"
HOUR_MS = 3_600_000
NOON = 1_800_000_000_000


def secret(kid: str = "kid-1", name: str = "db") -> Secret:
    return Secret(name, f"value of {kid}", kid, 1, "9999-12-31T23:59:59.999Z")


@dataclass
class World:
    """A state with a clock, a daemon's uptime that began 1,000 s before the clock, and answers to hand in."""

    now: float = 5000.0
    random: float = 0.5
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(random=lambda: self.random, times=Times())

    def fetch(self, kid: str = "kid-1", generation: int = 5, *, name: str = "db", epoch: str = EPOCH) -> Secret | None:
        answer = Fetched(secret(kid, name), epoch, generation)
        return self.state.fetched(name, answer, sent_at=self.now, now=self.now)

    def changes(
        self, generation: int, *changed: Change, session: int = 1, epoch: str = EPOCH, complete: bool = False
    ) -> None:
        answer = Changes(epoch, generation, session, self.uptime_ms, changed)
        self.state.history.begin(self.now)
        self.state.changes_answered(answer, complete=complete, sent_at=self.now, now=self.now)

    def begin(self, generation: int = 5) -> None:
        """A value is cached and the first /changes has answered."""
        self.fetch(generation=generation)
        self.changes(generation, changed(generation), complete=True)
        assert not self.due().fetch

    def checkpoint(
        self,
        generation: int = 5,
        *,
        session: int = 1,
        epoch: str = EPOCH,
        late: float = 0.0,
        interval: float = 10.0,
    ) -> None:
        uptime = self.uptime_ms - int(late * 1000)
        self.state.checkpoint(Checkpoint(epoch, generation, session, uptime, interval), self.now)

    def announce(self, generation: int, **details: object) -> None:
        self.state.announced(announcement(generation, **details), self.now)

    def due(self):
        return self.state.due(self.now)

    @property
    def uptime_ms(self) -> int:
        return int((self.now - 4000.0) * 1000)

    @property
    def value(self) -> Secret | None:
        return self.state.lookup("db", self.now)

    @property
    def stand_in(self) -> Secret | None:
        return self.state.stale("db", self.now)


def changed(generation: int, kid: str = "kid-1", *, name: str = "db", status: str = "active") -> Change:
    return Change(name, 1, kid, status, generation)


def announcement(generation: int, **details: object) -> Announcement:
    fields = {
        "name": "db",
        "epoch": EPOCH,
        "generation": generation,
        "kid": "kid-2",
        "status": "active",
        "urgent": False,
        "previous_kid": "kid-1",
        "grace_until_ms": NOON + HOUR_MS // 2,
        "time_ms": NOON,
        "spread_secs": 0.2,
    }
    return Announcement(**{**fields, **details})
