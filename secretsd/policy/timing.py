"""What a rule says of when: the calendar in place of a period."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from yaml.nodes import Node

from secretsd.config.reader import shown
from secretsd.policy import document as d
from secretsd.policy.cron import Cron, parse_cron
from secretsd.policy.zones import DEFAULT_ZONE, zone

TIMING_KEYS: Final = ("rotation_schedule", "time_zone")


@dataclass(frozen=True, slots=True)
class Timing:
    """The part of a rule that is read here."""

    cron: Cron | None = None


def parse_timing(members: dict[str, Node], where: str, findings: d.Findings) -> Timing:
    """Return what the rule called `where` says of when; mistakes go to `findings`."""
    own_zone = zone_of(members.get("time_zone"), f"{where}.time_zone", findings)
    schedule = members.get("rotation_schedule")
    if schedule is None:
        if "time_zone" in members:
            findings.note(members["time_zone"], f"{where}.time_zone", "there is no rotation_schedule that it is for")
        return Timing()
    for other in ("rotation_period", "rotation_days"):
        if other in members:
            findings.note(schedule, f"{where}.rotation_schedule", f"{other} says when too; keep one of the two")
    return Timing(cron=_cron(schedule, f"{where}.rotation_schedule", own_zone or DEFAULT_ZONE, findings))


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
