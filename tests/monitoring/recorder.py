"""What a real daemon exposes while something goes wrong, written as a test for promtool."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.monitoring.conftest import ROOT
from tests.support.daemon import Daemon
from tests.support.fast_clock import FastClock

RULES: Final = ROOT / "deploy/monitoring/secretsd.rules.yml"
INTERVAL_SECS: Final = 15
"""Of scrapes, as in deploy/prometheus.yml."""
EVALUATION_SECS: Final = 30
"""Twice as long as there: what a recording expects is a minute away from a change, and promtool takes half as long."""
TARGET: Final = {"instance": "127.0.0.1:8081", "job": "jarvis-secretsd"}
SINCE_EPOCH: Final = re.compile(r"_timestamp_seconds$")

Sample = Mapping[str, float]


def asked_for() -> frozenset[str]:
    """Return the names of the series that the rules ask for."""
    return frozenset(re.findall(r"\bsecretsd_[a-z_]+", RULES.read_text()))


def sample(exposition: str, names: frozenset[str], began_secs: float) -> Sample:
    """Return the series of these names. Times are counted from the beginning of the recording, as promtool's are."""
    found = {}
    for family in text_string_to_metric_families(exposition):
        for one in family.samples:
            if one.name in names:
                labels = ", ".join(f'{name}="{value}"' for name, value in sorted({**one.labels, **TARGET}.items()))
                value = one.value - began_secs if SINCE_EPOCH.search(one.name) else one.value
                found[f"{one.name}{{{labels}}}"] = value
    return found


def notation(values: Sequence[float | None]) -> str:
    """Return values as promtool reads them; None is a series that was not there."""
    words: list[str] = []
    runs: list[tuple[str, int]] = []
    for value in values:
        word = "_" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")
        if runs and runs[-1][0] == word:
            runs[-1] = word, runs[-1][1] + 1
        else:
            runs.append((word, 1))
    for word, count in runs:
        if word != "_":
            words.append(word if count == 1 else f"{word}+0x{count - 1}")
        elif words:
            # Prometheus marks what a scrape brings no more as stale at once.
            words += ["stale", f"_x{count - 1}"][: min(count, 2)]
        else:
            words.append(f"_x{count}")
    return " ".join(words)


class Recorder:
    """Scrapes a daemon every 15 seconds of its own time, from now on. A context manager."""

    def __init__(self, daemon: Daemon, clock: FastClock) -> None:
        self._daemon, self._clock = daemon, clock
        self._names = asked_for()
        self._samples: list[Sample | None] = []
        self._expected: list[tuple[int, frozenset[str]]] = []
        self._ended = threading.Event()
        self._first = int(clock.secs() // INTERVAL_SECS) + 1
        self._thread = threading.Thread(target=self._scrape_on, name="scrapes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def passes(self, minutes: float) -> None:
        """Wait until so many minutes of the daemon's time have passed."""
        self._clock.wait(self._clock.secs() + minutes * 60)

    def expects(self, *alerts: str) -> None:
        """Exactly these alerts fire by what was scraped so far; to be called between two scrapes' worth of quiet."""
        self._expected.append((len(self._samples) - 1, frozenset(alerts)))

    def written(self, name: str, what: str, factor: int) -> str:
        """Return the recording as a file for `promtool test rules`."""
        names = {series for one in self._samples if one is not None for series in one}
        up = ", ".join(f'{label}="{value}"' for label, value in TARGET.items())
        series = [{"series": f"up{{{up}}}", "values": notation([0 if s is None else 1 for s in self._samples])}]
        for one in sorted(names):
            values = [None if found is None else found.get(one) for found in self._samples]
            series.append({"series": one, "values": notation(values)})
        test = {
            "name": name,
            "interval": f"{INTERVAL_SECS}s",
            "input_series": series,
            "promql_expr_test": [self._expectation(place, alerts) for place, alerts in self._expected],
        }
        document = {
            "rule_files": ["../../../deploy/monitoring/secretsd.rules.yml"],
            "evaluation_interval": f"{EVALUATION_SECS}s",
            "tests": [test],
        }
        head = f"# {what}\n# Recorded from a running daemon by `make incidents`; its time ran {factor} times as fast.\n"
        return head + yaml.safe_dump(document, sort_keys=False, width=118)

    def _expectation(self, place: int, alerts: frozenset[str]) -> dict[str, Any]:
        return {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{place * INTERVAL_SECS}s",
            "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)],
        }

    def _scrape_on(self) -> None:
        while not self._ended.is_set():
            self._clock.wait((self._first + len(self._samples)) * INTERVAL_SECS)
            self._samples.append(self._scrape())

    def _scrape(self) -> Sample | None:
        # `wait` may have come late on a busy machine; the place in the row is the time that counts.
        began = self._clock.began_ns / 1e9 + self._first * INTERVAL_SECS
        try:
            answer = self._daemon.api.as_(None).get("/metrics")
        except OSError:
            return None
        return sample(answer.body.decode(), self._names, began)


def write(path: Path, text: str) -> None:
    """Replace a recording."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
