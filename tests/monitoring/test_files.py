"""deploy/monitoring and docs/monitoring.md against what a running daemon exposes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from secretsd.cli.app import COMMANDS
from tests.monitoring.conftest import ROOT
from tests.support.metrics import Family, Series, families, labels_of, missing

PAGE = ROOT / "docs" / "monitoring.md"
INCIDENTS = sorted((ROOT / "tests/monitoring/incidents").glob("*.yml"))
RECORDED = sorted((ROOT / "tests/monitoring/recorded").glob("*.yml"))
SHOWN = re.compile(r"\{\{ *(\w+) *\}\}")
TEMPLATED = re.compile(r"\$labels\.(\w+)")
GRAFANA = {"datasource", "instance", "__rate_interval"}


def targets(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Expression and legend of all that the dashboard asks for."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"], target["legendFormat"]


def row(family: Family) -> str:
    """A metric's line in the page's table."""
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.name}` | {family.kind} | {labels or '–'} | {family.help} |"


def test_every_alert_asks_for_what_a_daemon_exposes(rules: list[dict[str, Any]], exposed: list[Series]) -> None:
    assert {rule["alert"]: found for rule in rules if (found := [*missing(rule["expr"], exposed)])} == {}


def test_every_panel_asks_for_what_a_daemon_exposes(dashboard: dict[str, Any], exposed: list[Series]) -> None:
    assert {expr: found for expr, _ in targets(dashboard) if (found := [*missing(expr, exposed)])} == {}


def test_every_incident_is_made_of_what_a_daemon_exposes(exposed: list[Series]) -> None:
    recorded = {
        one["series"]
        for path in [*INCIDENTS, *RECORDED]
        for test in yaml.safe_load(path.read_text())["tests"]
        for one in test["input_series"]
    }
    # A bucket's bound is asked for as a value, so it has to be one of the daemon's.
    assert {text: found for text in recorded if (found := [*missing(text, exposed)])} == {}


def test_what_a_daemon_does_not_expose_is_noticed(exposed: list[Series]) -> None:
    wrong = {
        "secretsd_nothing > 0": ["secretsd_nothing"],
        'secretsd_secrets{state="expired"}': ["secretsd_secrets{state}"],
        'secretsd_secrets{status="gone"}': ['secretsd_secrets{status="gone"}'],
        "sum by (client) (secretsd_serving)": ["client"],
    }
    assert {expression: [*missing(expression, exposed)] for expression in wrong} == wrong


def test_words_and_legends_name_labels_that_are_there(
    rules: list[dict[str, Any]], dashboard: dict[str, Any], exposed: list[Series]
) -> None:
    for rule in rules:
        words = " ".join(rule["annotations"].values())
        assert set(TEMPLATED.findall(words)) <= labels_of(rule["expr"], exposed), rule["alert"]
    for expression, legend in targets(dashboard):
        assert set(SHOWN.findall(legend)) <= labels_of(expression, exposed), expression


def test_every_alert_says_how_bad_it_is_and_what_to_do_next(rules: list[dict[str, Any]]) -> None:
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names)
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
        assert "docs/runbook.md" in rule["annotations"]["description"], rule["alert"]


def test_the_commands_that_alerts_advise_exist(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        advised = set(re.findall(r"`secretsctl ([a-z-]+)", rule["annotations"]["description"]))
        assert advised <= set(COMMANDS), rule["alert"]


def test_the_dashboard_imports_into_any_grafana(dashboard: dict[str, Any]) -> None:
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    for panel in dashboard["panels"]:
        for part in (panel, *panel.get("targets", ())):
            if panel["type"] != "row":
                assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    used = {name for expression, _ in targets(dashboard) for name in re.findall(r"\$\{?(\w+)", expression)}
    assert used <= GRAFANA


def test_the_dashboard_shows_every_metric(dashboard: dict[str, Any], metrics: str) -> None:
    shown = " ".join(expression for expression, _ in targets(dashboard))
    assert [family.name for family in families(metrics) if family.name not in shown] == []


def test_the_page_lists_every_metric_as_it_is(metrics: str) -> None:
    told = [line for line in PAGE.read_text().splitlines() if line.startswith("| `secretsd_")]
    assert told == [row(family) for family in families(metrics)]


def test_the_page_explains_every_alert_with_its_severity(rules: list[dict[str, Any]]) -> None:
    told = dict(re.findall(r"^\| `(Secretsd\w+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE))
    assert told == {rule["alert"]: rule["labels"]["severity"] for rule in rules}


def test_the_page_says_what_each_recording_raises() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*)[^|]* \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    told = {tuple(re.findall(r"`(\w+)`", names)): alerts for names, alerts in rows}
    names = {path.stem: set(re.findall(r'alertname="(\w+)"', path.read_text())) for path in RECORDED}
    raised = {key: set(re.findall(r"`(Secretsd\w+)`", alerts)) for key, alerts in told.items() if key[0] in names}
    assert {name for key in raised for name in key} == set(names)
    for key, alerts in raised.items():
        assert set().union(*(names[name] for name in key)) == alerts, key


def test_no_label_holds_the_name_of_a_secret_or_a_client(exposed: list[Series]) -> None:
    values = {value for one in exposed for value in one.labels.values()}
    assert values.isdisjoint({"x", "admin", "backend"})
    labels = {label for one in exposed for label in one.labels}
    assert labels == {
        "route",
        "method",
        "status",
        "le",
        "reason",
        "type",
        "lane",
        "version",
        "files",
        "key",
        "step",
        "outcome",
    }


@pytest.mark.parametrize("compose", ["docker-compose.yml", "docker-compose.bridge.yml"])
def test_the_stack_mounts_the_rules_where_its_prometheus_looks_for_them(compose: str) -> None:
    settings = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    assert [(ROOT / "deploy" / rule).exists() for rule in settings["rule_files"]] == [True]
    mounts = yaml.safe_load((ROOT / "deploy" / compose).read_text())["services"]["prometheus"]["volumes"]
    assert "./monitoring:/etc/prometheus/monitoring:ro" in mounts
