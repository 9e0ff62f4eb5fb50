"""What a daemon's /metrics holds, and what a PromQL expression asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

SCRAPED = frozenset({"job", "instance"})
"""The labels that Prometheus adds to whatever it scrapes."""
NAME = re.compile(r"\b(secretsd_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\b(?:by|without|on|ignoring) *\(([^)]*)\)")


@dataclass(frozen=True)
class Family:
    """One metric as docs/monitoring.md names it: a counter with its `_total`; `labels` without a histogram's `le`."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


@dataclass(frozen=True)
class Series:
    """One line of the exposition."""

    name: str
    labels: Mapping[str, str]


def families(text: str) -> list[Family]:
    """Return the metrics of an exposition by name; when a series was created is no metric of ours."""
    found = []
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        found.append(Family(name, family.type, tuple(labels), family.documentation))
    return sorted(found, key=lambda family: family.name)


def series(text: str) -> list[Series]:
    """Return the series of an exposition."""
    return [
        Series(sample.name, sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def missing(expression: str, exposed: list[Series]) -> Iterator[str]:
    """Yield what `expression` names and `exposed` hasn't: metrics, labels, and values that are asked for by `=`."""
    labels_at_hand = set(SCRAPED)
    for name, braces in NAME.findall(expression):
        named = [one for one in exposed if one.name == name]
        if not named:
            yield name
        for label, operator, value in MATCHER.findall(braces):
            if label in SCRAPED:
                continue
            if not any(label in one.labels for one in named):
                yield f"{name}{{{label}}}"
            elif operator == "=" and not any(one.labels.get(label) == value for one in named):
                yield f'{name}{{{label}="{value}"}}'
        labels_at_hand.update(label for one in named for label in one.labels)
    for group in GROUPED.findall(expression):
        yield from (label for label in re.split(r"[ ,]+", group) if label and label not in labels_at_hand)


def labels_of(expression: str, exposed: list[Series]) -> set[str]:
    """Return the labels that a result of `expression` can have, those of the scrape included."""
    names = {name for name, _ in NAME.findall(expression)}
    return SCRAPED | {label for one in exposed if one.name in names for label in one.labels}
