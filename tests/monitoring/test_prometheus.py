"""A real Prometheus with the stack's own configuration, scraping a real daemon."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.monitoring.conftest import ROOT
from tests.monitoring.test_files import targets
from tests.support.daemon import Daemon
from tests.support.waiting import eventually, free_port

PROMETHEUS = shutil.which("prometheus")

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None, reason="prometheus is not installed (Debian's package; `tools/environment tools`)"
)


class Prometheus:
    """The program on a free port, scraping and judging every quarter of a second."""

    def __init__(self, folder: Path, daemon: Daemon) -> None:
        shutil.copytree(ROOT / "deploy/monitoring", folder / "monitoring")
        settings = (ROOT / "deploy/prometheus.yml").read_text()
        assert settings.count("15s") == 2
        settings = settings.replace("15s", "250ms").replace("127.0.0.1:8081", f"127.0.0.1:{daemon.port}")
        (folder / "prometheus.yml").write_text(settings)
        self._port = free_port()
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    PROMETHEUS or "",
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )

    def ask(self, path: str, **query: str) -> Any:
        """Return the `data` of an answer of its API."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> list[float]:
        """Return the values of what an expression finds now."""
        return [float(one["value"][1]) for one in self.ask("query", query=expression)["result"]]

    def log(self) -> str:
        """What it wrote about itself."""
        return self._log.read_text()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture(scope="module")
def prometheus(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    record = daemon.vault_path.with_name("vault.json.backup")
    record.write_text('{"created_at":"2026-11-23T17:00:00.000Z"}')
    running = Prometheus(tmp_path_factory.mktemp("prometheus"), daemon)
    try:
        eventually(lambda: running.value("count_over_time(up[1m]) > 3") and running.value("up") == [1], "it scrapes")
        yield running
    finally:
        running.close()


def test_every_panel_of_the_dashboard_shows_something(prometheus: Prometheus, dashboard: dict[str, Any]) -> None:
    for expression, _ in targets(dashboard):
        filled = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
        eventually(lambda asked=filled: prometheus.ask("query", query=asked)["result"], filled)  # type: ignore[misc]


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus, rules: list[dict[str, Any]]) -> None:
    def evaluated() -> bool:
        loaded = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in loaded} == {rule["alert"] for rule in rules}
        return all(rule["health"] == "ok" for rule in loaded)

    eventually(evaluated, "every rule is evaluated")
    assert "level=error" not in prometheus.log()


def test_it_sees_a_change_and_a_refusal(prometheus: Prometheus, daemon: Daemon) -> None:
    def made() -> list[float]:
        return prometheus.value('secretsd_changes_total{type="secret.created"}')

    before = made()[0]
    refused = prometheus.value('secretsd_refusals_total{reason="denied"}')[0]
    daemon.api.create("another", "v")
    daemon.api.as_("backend").get("/secret/another").refused(403, "forbidden")
    eventually(lambda: made() == [before + 1], "the change is counted")
    eventually(
        lambda: prometheus.value('secretsd_refusals_total{reason="denied"}') == [refused + 1], "the refusal is counted"
    )
