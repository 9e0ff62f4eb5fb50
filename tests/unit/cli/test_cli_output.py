"""How times are said, and that text from elsewhere is safe to show."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from secretsd.cli.output import distance, duration_text, when
from secretsd.cli.terminal import printable, printable_lines

NOW = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "said", "far"),
    [
        ("2027-02-21T16:59:59.000Z", "2027-02-21 16:59 (in 90 d)", "in 90 d"),
        ("2026-11-23T16:55:00.000Z", "2026-11-23 16:55 (5 min ago)", "5 min ago"),
        ("2026-11-23T17:00:00.000Z", "2026-11-23 17:00 (in 0 s)", "in 0 s"),
        ("9999-12-31T23:59:59.999Z", "never", "never"),
        ("no time", "no time", "no time"),
    ],
)
def test_a_time_is_said_with_its_distance(time: str, said: str, far: str) -> None:
    assert when(time, NOW) == said
    assert distance(time, NOW) == far


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d"), (1e7, "116 d")]
)
def test_a_length_is_said_in_its_largest_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain ä €", "plain ä €"), ("a\x1b[31mb", "a\\x1b[31mb"), ("a\nb", "a\\nb"), ("a\u202eb", "a\\u202eb")],
)
def test_what_a_terminal_would_act_on_is_made_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_lines_stay_lines_and_none_passes_for_a_message_of_its_own() -> None:
    assert printable_lines("a:\n  line 2: \x1b[31mb\r\nhint: c\u2028") == (
        "a:\n  line 2: \\x1b[31mb\\r\n  hint: c\\u2028"
    )
