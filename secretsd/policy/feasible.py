"""Whether the rotations that a policy asks for can be: with the distances and windows, and whom they rotate with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from yaml.nodes import ScalarNode

from secretsd.model import DAY_MS, NEVER_MS
from secretsd.policy import document as d
from secretsd.policy.cron import Cron
from secretsd.policy.names import NameSet, is_glob
from secretsd.policy.rules import SecretRule
from secretsd.policy.windows import Window

Ruled = tuple[SecretRule, ScalarNode]
"""A rule, and the key that it stands under."""

_FROM_MS: Final = 1_704_067_200_000
"""2024-01-01, a Monday: the answer is the same every day."""
_INSTANTS: Final = 400
_UNITS: Final = (("d", DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1000))


def check_distances(rules: Sequence[Ruled], findings: d.Findings) -> None:
    """Note each distance that leaves a secret no room to rotate as often as it is to.

    Between two rotations of one there has to be an instant at which the other may: a gap away from both, and with the
    window open where they share one. How many secrets a glob stands for isn't known here; two are assumed.
    """
    for rule, key in rules:
        for other, _ in rules:
            if not _concerns(rule, other):
                continue
            for one in (rule,) if other is rule else (rule, other):
                for complaint in _no_room(one, rule, other):
                    findings.note(key, f"secrets.{rule.pattern}.not_with", complaint)


def ahead_complaints(rule: SecretRule) -> Iterator[str]:
    """Yield why the keys of `rule` can't be published ahead of their use."""
    if not rule.jwks:
        yield "is about keys that are published: the rule needs jwks: true"
    if rule.rotation != "auto":
        yield "is about rotations by schedule: the rule needs rotation: auto"
    if rule.rotator is not None:
        yield "a rotator brings the new key to its other end itself; keep one of the two"
    if rule.publish_ahead_ms is not None and rule.publish_ahead_ms >= _period(rule):
        yield f"has to be shorter than the time between two rotations, which is {_words(_period(rule))}"


def window_warnings(rules: Sequence[Ruled]) -> list[str]:
    """Return a warning for each rule whose window opens more rarely than it is to rotate."""
    warnings = []
    for rule, _ in rules:
        if rule.window is None or not _rotates(rule):
            continue
        every, period = opens_every(rule.window), _period(rule)
        if period < every:
            warnings.append(
                f"secrets.{rule.pattern}: asks for a rotation every {_words(period)}, and its window opens every "
                f"{_words(every)} only: that is how often it rotates"
            )
    return warnings


def opens_every(window: Window) -> int:
    """Return the longest time between two openings of `window`, in ms; changes of clocks aside."""
    openings: list[int] = []
    instant = _FROM_MS
    while instant < _FROM_MS + 15 * DAY_MS:
        opened = window.next_open(instant)
        openings.append(opened)
        instant = max(opened, instant) + _length(window)
    return max(after - before for before, after in pairwise(openings[1:]))


def _no_room(one: SecretRule, rule: SecretRule, other: SecretRule) -> Iterator[str]:
    gap = rule.gap_ms
    period = _period(one)
    if not _rotates(one) or period >= NEVER_MS:
        return
    if period < 2 * gap:
        yield (
            f"no room for {_said(rule, other)}: {one.pattern} rotates every {_words(period)}, and within a gap of "
            f"{_words(gap)} before and after it nothing may; a gap of at most {_words(period // 2)} fits"
        )
    elif rule.window is not None and rule.window == other.window:
        every = opens_every(rule.window)
        openings = max(period // every, 1)
        if openings * (1 + (_length(rule.window) - 1) // gap) < 2:
            yield (
                f"no room for {_said(rule, other)}: their window opens every {_words(every)} and is no longer than the "
                f"gap of {_words(gap)}, so one of them rotates in it, and {one.pattern} is to rotate every "
                f"{_words(period)}; widen the window, shorten the gap, or rotate more rarely"
            )


_UNDER_ANOTHER_NAME: Final = (
    "it rotates the password of the administrator that it logs in as, so {0} would hold an outdated one; allowed: "
    "this rule for {0} itself, or another account"
)


def check_own_secrets(rules: Sequence[Ruled], findings: d.Findings) -> None:
    """Note each rotator that reads a secret that it rotates and can't mean to, or that it would have to and doesn't."""
    matchers = [(NameSet([rule.pattern]), rule) for rule, _ in rules]
    for rule, key in rules:
        if rule.rotator is None:
            continue
        for secret in dict.fromkeys(rule.rotator.config.reads()):
            # The first match wins: an earlier rule may take this name out of a glob.
            if next((one for names, one in matchers if secret in names), None) is not rule:
                if secret in rule.rotator.config.own_reads():
                    findings.note(key, f"secrets.{rule.pattern}.rotator", _UNDER_ANOTHER_NAME.format(secret))
                continue
            try:
                rule.rotator.config.check_own(secret)
            except ValueError as error:
                findings.note(key, f"secrets.{rule.pattern}.rotator", str(error))


def _said(rule: SecretRule, other: SecretRule) -> str:
    return f"two of {rule.pattern}" if other is rule else other.pattern


def _concerns(rule: SecretRule, other: SecretRule) -> bool:
    if other is rule:
        return is_glob(rule.pattern) and rule.pattern in rule.not_with
    return other.pattern in rule.not_with or other.pattern in NameSet(rule.not_with)


def _rotates(rule: SecretRule) -> bool:
    return rule.rotation == "auto" and rule.type != "external"


def _period(rule: SecretRule) -> int:
    """Return how often the rule asks for a rotation; NEVER_MS where it leaves that to others."""
    if rule.cron is not None:
        return _shortest(rule.cron)
    return rule.rotation_ms if isinstance(rule.rotation_ms, int) else NEVER_MS


def _shortest(cron: Cron) -> int:
    shortest, instant = NEVER_MS, cron.after(_FROM_MS)
    for _ in range(_INSTANTS):
        after = cron.after(instant)
        if after == NEVER_MS:
            break
        shortest, instant = min(shortest, after - instant), after
    return shortest


def _length(window: Window) -> int:
    return (window.end - window.start + (24 * 60 if window.end <= window.start else 0)) * 60_000


def _words(milliseconds: int) -> str:
    """Return a duration as the policy has it, in the largest unit that is exact."""
    unit, size = next(((unit, size) for unit, size in _UNITS if milliseconds % size == 0), ("s", 1000))
    return f"{milliseconds // size}{unit}"
