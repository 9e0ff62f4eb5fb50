"""doctor as a command: choosing checks, what it prints, how it ends; and what holds for every check."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from secretsd.cli.checks import CHECKS, run
from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, combined, failure, ok, warning
from secretsd.cli.checks.once import Once
from secretsd.cli.options import Settings
from tests.unit.cli.conftest import Ctl, Terminal
from tests.unit.cli.installation import Installation

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "secretsctl.md"


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path).start_first()


def test_no_failure_is_status_0_and_each_check_a_line(ctl: Ctl, place: Installation) -> None:
    result = ctl("doctor", "--config", str(place.config_path), "--only", "config", "--only", "proofs")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["ok", "config"], ["ok", "proofs"]]
    assert lines[-1] == "2 ok, 0 warnings, 0 failures, 0 skipped"


def test_a_warning_is_status_0_with_its_fix(ctl: Ctl, place: Installation) -> None:
    place.write_policy({"clients": {"app": {"allow": ["x"]}}})
    result = ctl("doctor", "--config", str(place.config_path), "--only", "proofs")
    assert result.exit_code == 0
    assert "fix: (umask 077; openssl" in result.stdout
    assert "1 warning," in result.stdout


def test_a_failure_is_status_1(ctl: Ctl, place: Installation) -> None:
    place.state.master_key.chmod(0o644)
    result = ctl("doctor", "--config", str(place.config_path), "--only", "modes")
    assert result.exit_code == 1
    assert f"fix: chmod 600 {place.state.master_key}" in result.stdout


def test_skip_leaves_checks_out(ctl: Ctl, place: Installation) -> None:
    shown = json.loads(
        ctl("doctor", "--config", str(place.config_path), "--json", "--skip", "chain", "--skip", "swap").stdout
    )
    assert [one["name"] for one in shown["checks"]] == [
        check.name for check in CHECKS if check.name not in {"chain", "swap"}
    ]


def test_json_says_everything(ctl: Ctl, place: Installation) -> None:
    place.state.master_key.chmod(0o644)
    result = ctl("doctor", "--config", str(place.config_path), "--only", "modes", "--only", "chain", "--json")
    shown = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (shown["ok"], shown["config"]) == (False, str(place.config_path))
    assert shown["summary"] == {"ok": 1, "warning": 0, "failure": 1, "skipped": 0}
    modes = shown["checks"][0]
    assert (modes["name"], modes["status"], modes["fixes"]) == (
        "modes", "failure", [f"chmod 600 {place.state.master_key}"],
    )  # fmt: skip
    assert modes["asks"]
    assert modes["took_ms"] >= 0


def test_the_list_names_every_check(ctl: Ctl) -> None:
    text = ctl("doctor", "--list").stdout
    assert [line.split()[0] for line in text.splitlines()[1:]] == [check.name for check in CHECKS]
    assert len(json.loads(ctl("doctor", "--list", "--json").stdout)["checks"]) == len(CHECKS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--only", "nothing"],
        ["--skip", "nothing"],
        ["--only", "chain", "--skip", "chain"],
        ["--foreign-user", "x"],
        ["--url", "gopher://x"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_status_2(ctl: Ctl, place: Installation, arguments: list[str]) -> None:
    assert ctl("doctor", "--config", str(place.config_path), *arguments).exit_code == 2


def test_a_missing_configuration_is_a_failure_and_everything_else_still_runs(ctl: Ctl, tmp_path: Path) -> None:
    result = ctl("doctor", "--config", str(tmp_path / "none.toml"), "--json")
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert [one["name"] for one in shown["checks"] if one["status"] == "failure"] == ["config"]


def test_a_terminal_gets_marks_and_fixes_that_can_be_copied(terminal: Terminal, place: Installation) -> None:
    place.state.master_key.chmod(0o644)
    status, shown = terminal(
        "doctor", "--config", str(place.config_path), "--only", "modes", "--only", "swap", env={"COLUMNS": "60"}
    )
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert status == 1
    assert "✗  modes" in plain
    assert f"→ chmod 600 {place.state.master_key}\r\n" in plain
    assert "1 failure" in plain


def test_the_reference_lists_every_check_and_no_other() -> None:
    chapter = REFERENCE.read_text().split("### `secretsctl doctor`")[1].split("\n#")[0]
    named = re.findall(r"^\| `([a-z-]+)` \|", chapter, flags=re.MULTILINE)
    assert named == [check.name for check in CHECKS]


def test_names_are_unique_and_every_check_asks_something() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.asks.endswith("?") for check in CHECKS)


# What holds for every check


def looked(error: Exception) -> Finding:
    def look(context: Context) -> Finding:
        raise error

    return run(Check("x", "?", look), Context(Path("none"), Settings()))


def test_what_goes_wrong_within_a_check_is_a_finding() -> None:
    assert looked(Skip("why")).found == "why"
    assert looked(PermissionError(13, "Permission denied", "/x")).status == "skipped"
    assert looked(OSError(5, "Input/output error", "/x")).status == "failure"


def test_an_unforeseen_error_shows_its_kind_and_never_its_text() -> None:
    finding = looked(ValueError("planted-value"))
    assert (finding.status, "ValueError" in finding.found, "planted-value" in str(finding)) == ("failure", True, False)


def test_several_findings_become_one_with_the_worst_standing_first() -> None:
    both = combined("good", [warning("w", "fix w"), failure("f", "fix f"), failure("g", "fix f")])
    assert both == Finding("failure", "f; g; w", ("fix f", "fix w"))
    assert combined("good", []) == ok("good")
    many = combined("good", [warning(f"w{n}", f"fix {n}") for n in range(20)])
    assert many.found.endswith("and 15 more")
    assert many.fixes[-1] == "and 12 more of this kind"


def test_what_is_looked_at_once_is_remembered_as_value_and_as_reason() -> None:
    class Looking:
        calls = 0

        @Once
        def value(self) -> int:
            self.calls += 1
            return 7

        @Once
        def nothing(self) -> int:
            self.calls += 1
            raise Skip("why")

    one = Looking()
    assert (one.value, one.value) == (7, 7)
    for _ in range(2):
        with pytest.raises(Skip, match="why"):
            _ = one.nothing
    assert one.calls == 2
