"""Where a rotation by schedule may stand: in its window, and apart from those it is not to be together with.

Pure: instants in, instants out. What was placed stays, so what comes later in order gives way to it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from secretsd.model import NEVER_MS
from secretsd.policy import NameSet, Policy
from secretsd.policy.rules import SecretRule


@dataclass(frozen=True, slots=True)
class Slot:
    """When a rotation is to happen, and what moved it from when it was due: another's name, its window, or nothing."""

    at: int
    moved_by: str | None = None
    windowed: bool = False


class Stretches:
    """The instants at which something may not stand: half-open, apart and in order, each with who ends it."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        self._by: list[str] = []

    def free(self, instant: int) -> tuple[int, str | None]:
        """Return the first instant from `instant` on that is free, and whose gap moved it there."""
        place = bisect_right(self._begins, instant) - 1
        if place < 0 or self._ends[place] <= instant:
            return instant, None
        return self._ends[place], self._by[place]

    def drop(self, instant: int) -> None:
        """Forget what ends before `instant`: nothing is asked about the past."""
        past = bisect_right(self._ends, instant)
        del self._begins[:past], self._ends[:past], self._by[:past]

    def block(self, begin: int, end: int, by: str) -> None:
        """Take away the instants from `begin` up to and without `end`. Stretches that touch become one."""
        first, last = bisect_left(self._ends, begin), bisect_right(self._begins, end)
        if first < last:
            begin = min(begin, self._begins[first])
            if self._ends[last - 1] > end:
                end, by = self._ends[last - 1], self._by[last - 1]
        self._begins[first:last], self._ends[first:last], self._by[first:last] = [begin], [end], [by]


@dataclass(slots=True)
class _Distance:
    """What one rule's `not_with` says, and what stands so far on either side of it."""

    pattern: str
    others: NameSet
    gap_ms: int
    near_rule: Stretches = field(default_factory=Stretches)
    """Within the gap of a secret of the rule: not for those that it names."""
    near_others: Stretches = field(default_factory=Stretches)


class Spacing:
    """The distances that a policy asks for, and the rotations placed under them, earliest due first."""

    def __init__(self, policy: Policy | None) -> None:
        """`policy` None asks for nothing."""
        self._policy = policy
        rules = [rule for rule in (() if policy is None else policy.rules) if rule.not_with]
        self._distances = [_Distance(rule.pattern, NameSet(rule.not_with), rule.gap_ms) for rule in rules]
        self._sides: dict[str, tuple[tuple[int, bool], ...]] = {}
        self._reached: dict[tuple[object, ...], Slot] = {}
        self.widest_ms = max((distance.gap_ms for distance in self._distances), default=0)
        """The longest gap: what lies further back holds nothing up."""

    def apart(self, name: str) -> bool:
        """Tell whether something keeps a distance from `name`, or it from something."""
        return bool(self._distances) and bool(self._sides_of(name))

    def free_to_rotate(self, name: str) -> bool:
        """Tell whether nothing but its expiry says when `name` rotates."""
        return not self.apart(name) and self._rule(name).window is None

    def forget(self) -> None:
        """Begin anew, with nothing placed."""
        self._reached.clear()
        for distance in self._distances:
            distance.near_rule, distance.near_others = Stretches(), Stretches()

    def place(self, name: str, due_ms: int, now_ms: int) -> Slot:
        """Return the first instant, neither before `due_ms` nor `now_ms`, at which `name` may rotate, and keep it free.

        To be asked in the order in which they are due: then nothing is overtaken for ever.
        """
        window, sides = self._rule(name).window, self._sides_of(name)
        earliest = max(due_ms, now_ms)
        for index, ruled in sides:
            self._side(index, not ruled).drop(now_ms)
        instant, moved_by, windowed = earliest, None, False
        before = self._reached.get((window, sides))
        if before is not None and before.at > earliest:
            # Those alike find no earlier place than the one before them did: nothing is searched twice.
            instant, moved_by, windowed = before.at, before.moved_by, before.windowed
        while True:
            start = instant
            if window is not None:
                instant = window.next_open(instant)
                windowed = windowed or instant != start
            for index, ruled in sides:
                instant, by = self._side(index, not ruled).free(instant)
                moved_by = by or moved_by
            if instant in (start, NEVER_MS):
                break
        slot = self._reached[window, sides] = Slot(instant, moved_by, windowed)
        self.stand(name, instant)
        return slot

    def stand(self, name: str, instant: int) -> None:
        """Keep others off the instant at which `name` is, or was, given a new version."""
        for index, ruled in self._sides_of(name):
            gap_ms = self._distances[index].gap_ms
            self._side(index, ruled).block(instant - gap_ms + 1, instant + gap_ms, name)

    def _side(self, index: int, ruled: bool) -> Stretches:
        distance = self._distances[index]
        return distance.near_rule if ruled else distance.near_others

    def _rule(self, name: str) -> SecretRule:
        return SecretRule("") if self._policy is None else self._policy.rule_for(name)

    def _sides_of(self, name: str) -> tuple[tuple[int, bool], ...]:
        """Return which distances concern `name`, each with whether it is under the rule or among those it names."""
        sides = self._sides.get(name)
        if sides is None:
            pattern = self._rule(name).pattern
            sides = tuple(
                (index, ruled)
                for index, distance in enumerate(self._distances)
                for ruled, concerned in ((True, distance.pattern == pattern), (False, name in distance.others))
                if concerned
            )
            self._sides[name] = sides
        return sides
