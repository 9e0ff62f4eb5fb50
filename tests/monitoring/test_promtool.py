"""The rules on incidents, recorded and written: each alert fires in its time, and is over when the trouble is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.conftest import ROOT
from tests.monitoring.scenarios import INCIDENTS as SCENARIOS
from tests.monitoring.scenarios import scene
from tests.monitoring.test_files import INCIDENTS, RECORDED, targets

NOT_RECORDED = {"SecretsdPublishStalls"}
"""A daemon breaks off a connection on which nothing is acknowledged: then it is SecretsdBrokerLost."""

PROMTOOL = shutil.which("promtool")
RULES = ROOT / "deploy/monitoring/secretsd.rules.yml"

pytestmark = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus; `tools/environment tools`)"
)


def promtool(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROMTOOL or "", *arguments], input=given, capture_output=True, text=True, check=False, timeout=60
    )


def passes(*arguments: str, given: str | None = None) -> None:
    ran = promtool(*arguments, given=given)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def tried(path: Path, rules: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an incident on other rules than it names; the copy that says so is made in `folder`."""
    incident = yaml.safe_load(path.read_text())
    incident["rule_files"] = [str(rules)]
    copy = folder / f"tried-{path.name}"
    copy.write_text(yaml.safe_dump(incident))
    return promtool("test", "rules", str(copy))


def test_prometheus_takes_the_rules() -> None:
    passes("check", "rules", str(RULES))


def test_prometheus_takes_the_stacks_configuration() -> None:
    passes("check", "config", str(ROOT / "deploy/prometheus.yml"))


def test_the_metrics_follow_the_conventions_of_prometheus(metrics: str) -> None:
    passes("check", "metrics", given=metrics)


def test_every_panels_expression_is_promql(dashboard: dict[str, Any], tmp_path: Path) -> None:
    def filled(expression: str) -> str:
        return expression.replace("$__rate_interval", "5m").replace("$instance", ".*")

    records = [
        {"record": f"panel:{place}", "expr": filled(expression)}
        for place, (expression, _) in enumerate(targets(dashboard))
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    passes("check", "rules", str(file))


def test_what_a_daemon_exposed_in_real_incidents_raises_the_right_alerts() -> None:
    passes("test", "rules", *map(str, RECORDED))


def test_every_alert_fires_in_some_recording_or_is_known_not_to(rules: list[dict[str, Any]]) -> None:
    recorded = {name for path in RECORDED for name in re.findall(r'alertname="(\w+)"', path.read_text())}
    assert recorded == {rule["alert"] for rule in rules} - NOT_RECORDED


def test_every_incident_is_recorded() -> None:
    assert {path.stem for path in RECORDED} == set(SCENARIOS)


@pytest.mark.slow
def test_an_incident_recorded_now_is_judged_as_the_one_that_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "again.yml"
    with scene(SCENARIOS["daemon_killed"]) as now:
        SCENARIOS["daemon_killed"].happens(now)
    path.write_text(now.record.written("daemon_killed", "again", SCENARIOS["daemon_killed"].factor))
    ran = tried(path, RULES, tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
def test_alerts_fire_when_they_should_and_only_then() -> None:
    # One run for all: starting promtool takes longer than an incident. It names the file and the moment that failed.
    passes("test", "rules", *map(str, INCIDENTS))


def test_every_alert_fires_in_some_incident(rules: list[dict[str, Any]]) -> None:
    seen = {name for path in INCIDENTS for name in re.findall(r'alertname="(\w+)"', path.read_text())}
    assert seen == {rule["alert"] for rule in rules}


@pytest.mark.slow
@pytest.mark.parametrize("change", ["later", "at once"])
def test_the_incidents_notice_another_time_to_fire(rules: list[dict[str, Any]], change: str, tmp_path: Path) -> None:
    waiting = [rule["alert"] for rule in rules if "for" in rule]
    changed = [{**rule, "for": "0s" if change == "at once" else "2h"} if "for" in rule else rule for rule in rules]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": changed}]}))
    concerned = [path for path in INCIDENTS if any(f'"{name}"' in path.read_text() for name in waiting)]
    assert [path.stem for path in concerned if tried(path, file, tmp_path).returncode == 0] == []


def test_a_plain_restart_would_be_noticed_by_alerts_that_do_not_wait(
    rules: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "rules.yml"
    hasty = [{key: value for key, value in rule.items() if key != "for"} for rule in rules]
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": hasty}]}))
    ran = tried(ROOT / "tests/monitoring/incidents/plain_restart.yml", file, tmp_path)
    assert ran.returncode != 0
    assert "SecretsdDown" in ran.stdout + ran.stderr
