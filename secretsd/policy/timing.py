"""What a rule says of when: the calendar in place of a period, maintenance windows, and what keeps a distance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from yaml.nodes import MappingNode, Node

from secretsd.config.reader import nearest, shown
from secretsd.model import is_name, parse_duration
from secretsd.policy import document as d
from secretsd.policy.cron import Cron, parse_cron
from secretsd.policy.names import is_pattern
from secretsd.policy.windows import DAY_MINUTES, DAYS, Window, described
from secretsd.policy.zones import DEFAULT_ZONE, zone

TIMING_KEYS: Final = ("rotation_schedule", "time_zone", "window", "not_with", "gap", "publish_ahead")
DEFAULT_GAP_MS: Final = 3_600_000
_WINDOW_KEYS: Final = ("days", "from", "to", "time_zone")
_CLOCK: Final = re.compile(r"([0-9]{1,2}):([0-5][0-9])\Z")


@dataclass(frozen=True, slots=True)
class Timing:
    """The part of a rule that is read here."""

    cron: Cron | None = None
    window: Window | None = None
    not_with: tuple[str, ...] = ()
    gap_ms: int = 0
    publish_ahead_ms: int | None = None


def parse_windows(node: Node, findings: d.Findings) -> dict[str, Window]:
    """Return the windows that the file's `windows` names; mistakes go to `findings`."""
    windows: dict[str, Window] = {}
    if d.is_nothing(node):
        return windows
    for name, key, value in d.entries(node, "windows", findings):
        if not is_name(name):
            findings.note(key, "windows", f"found {shown(name)}; allowed: a name with the characters of a secret's")
            continue
        window = _window(value, f"windows.{name}", name, DEFAULT_ZONE, findings)
        if window is not None:
            windows[name] = window
    return windows


def parse_timing(
    members: Mapping[str, Node], where: str, windows: Mapping[str, Window], findings: d.Findings
) -> Timing:
    """Return what the rule called `where` says of when; `windows` are those with names. Mistakes go to `findings`."""
    own_zone = zone_of(members.get("time_zone"), f"{where}.time_zone", findings)
    schedule, window = members.get("rotation_schedule"), members.get("window")
    if "time_zone" in members and schedule is None and not isinstance(window, MappingNode):
        findings.note(
            members["time_zone"],
            f"{where}.time_zone",
            "there is no rotation_schedule that it is for, and no window of the rule's own",
        )
    if schedule is not None:
        for other in ("rotation_period", "rotation_days"):
            if other in members:
                findings.note(schedule, f"{where}.rotation_schedule", f"{other} says when too; keep one of the two")
    zone_name = own_zone or DEFAULT_ZONE
    not_with = _patterns(members.get("not_with"), f"{where}.not_with", findings)
    gap = members.get("gap")
    if gap is not None and "not_with" not in members:
        findings.note(gap, f"{where}.gap", "there is no not_with that it is for")
    return Timing(
        cron=None if schedule is None else _cron(schedule, f"{where}.rotation_schedule", zone_name, findings),
        window=None if window is None else _window_of_rule(window, f"{where}.window", zone_name, windows, findings),
        not_with=not_with,
        gap_ms=_span(gap, f"{where}.gap", findings) or DEFAULT_GAP_MS if not_with else 0,
        publish_ahead_ms=_span(members.get("publish_ahead"), f"{where}.publish_ahead", findings),
    )


def zone_of(node: Node | None, where: str, findings: d.Findings) -> str | None:
    """Return the name of a time zone, None where there is none or no such zone."""
    if node is None:
        return None
    name = d.text_of(node)
    if name is None:
        findings.misfit(node, where, 'a zone of the tz database, such as "Europe/Berlin" or "UTC"')
        return None
    try:
        zone(name)
    except ValueError as error:
        findings.note(node, where, f"unknown zone {shown(name)}; {error}")
        return None
    return name


def _cron(node: Node, where: str, zone_name: str, findings: d.Findings) -> Cron | None:
    text = d.text_of(node)
    if text is None:
        findings.misfit(node, where, 'a cron expression in quotes, such as "0 3 1 * *"')
        return None
    try:
        return parse_cron(text, zone_name)
    except ValueError as error:
        findings.note(node, where, f"found {shown(text)}; allowed: {error}")
        return None


def _window_of_rule(
    node: Node, where: str, zone_name: str, windows: Mapping[str, Window], findings: d.Findings
) -> Window | None:
    name = d.text_of(node)
    if name is None:
        return _window(node, where, "", zone_name, findings)
    if name not in windows:
        near = nearest(name, windows)
        hint = f"did you mean {near}? " if near else ""
        allowed = ", ".join(windows) or "none is there, write days, from and to here"
        findings.note(node, where, f"no window is called {shown(name)}; {hint}those under windows: {allowed}")
    return windows.get(name)


def _window(node: Node, where: str, label: str, zone_name: str, findings: d.Findings) -> Window | None:
    members: dict[str, Node] = {}
    for member, key, value in d.entries(node, where, findings):
        if member in _WINDOW_KEYS:
            members[member] = value
        else:
            d.unknown_key(key, where, _WINDOW_KEYS, findings)
    zone_name = zone_of(members.get("time_zone"), f"{where}.time_zone", findings) or zone_name
    days = _days(members.get("days"), f"{where}.days", findings)
    edges: list[int] = []
    for edge in ("from", "to"):
        if edge not in members:
            if isinstance(node, MappingNode):
                findings.note(node, where, f'{edge} is missing; a window has from and to, such as "02:00"')
            continue
        minutes = _minutes(members[edge], f"{where}.{edge}", findings)
        if minutes is not None:
            edges.append(minutes)
    if len(edges) != len(("from", "to")):
        return None
    start, end = edges[0] % DAY_MINUTES, edges[1]
    if start == end:
        findings.note(node, where, 'from and to are the same; a whole day is from "00:00" to "24:00"')
        return None
    return Window(days, start, end, zone_name, label or described(days, start, end, zone_name))


def _days(node: Node | None, where: str, findings: d.Findings) -> frozenset[int]:
    if node is None:
        return frozenset(range(len(DAYS)))
    days: set[int] = set()
    for item in d.items(node, where, findings):
        word = d.text_of(item)
        if word in DAYS:
            days.add(DAYS.index(word))
        else:
            findings.note(item, where, f"found {shown(word) if word else d.kind_of(item)}; allowed: {', '.join(DAYS)}")
    if not d.items(node, where, findings):
        findings.note(node, where, f"none is listed; allowed: {', '.join(DAYS)}, or leave days out for all")
    return frozenset(days)


def _minutes(node: Node, where: str, findings: d.Findings) -> int | None:
    # YAML takes an unquoted 22:00 for a number of base 60.
    text = d.text_of(node, also=("int",))
    match = None if text is None else _CLOCK.match(text)
    minutes = None if match is None else int(match[1]) * 60 + int(match[2])
    if minutes is None or minutes > DAY_MINUTES:
        found = d.kind_of(node) if text is None else shown(text)
        findings.note(node, where, f'found {found}; allowed: a time in quotes, "00:00" to "24:00"')
        return None
    return minutes


def _patterns(node: Node | None, where: str, findings: d.Findings) -> tuple[str, ...]:
    if node is None:
        return ()
    patterns: list[str] = []
    for item in d.items(node, where, findings):
        text = d.text_of(item)
        if text is not None and is_pattern(text):
            patterns.append(text)
        elif text is not None:
            findings.note(item, where, f"no name matches {shown(text)}; allowed: a name, or one with * and ?")
        else:
            findings.misfit(item, where, "a name, or one with * and ?")
    return tuple(patterns)


def _span(node: Node | None, where: str, findings: d.Findings) -> int | None:
    """Return a length of time in ms, None where there is none or it can't be one."""
    if node is None:
        return None
    text = d.text_of(node)
    try:
        span_ms = None if text is None else parse_duration(text)
    except ValueError as error:
        findings.note(node, where, f"found {shown(text or '')}; allowed: {error}")
        return None
    if span_ms is None or span_ms < 1000:
        findings.note(node, where, 'allowed: a duration in quotes of at least "1s", such as "1h"')
        return None
    return span_ms
