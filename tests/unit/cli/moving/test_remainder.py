"""What a .env becomes: what stays is the same bytes, and nothing of what went is left in a comment."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.cli.errors import Failed
from secretsd.cli.moving.envfile import EnvFile, parse, read_envfile
from secretsd.cli.moving.remainder import Remainder, remainder
from secretsd.crypto.sensitive import Sensitive


def left(text: str, gone: set[str], values: list[str] | None = None) -> Remainder:
    return remainder(EnvFile(Path(".env"), Sensitive(text.encode()), parse(text)), gone, values or [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\nS=x\nB=2\n", "A=1\nB=2\n"),
        ("S=x\nA=1\nS=y", "A=1\n"),
        ('A=1\nS="x\ny"\n# kept\n', "A=1\n# kept\n"),
        ("A = '1'  # why\r\nexport S=x\r\n", "A = '1'  # why\r\n"),
        ("A=1\nT=S\n", "A=1\nT=S\n"),
        ("# head\n\nA=1\n\n= broken\nS=x\n", "# head\n\nA=1\n\n= broken\n"),
    ],
)
def test_what_stays_is_byte_for_byte_what_it_was(text: str, expected: str) -> None:
    assert left(text, {"S"}).content == expected.encode()


def test_a_byte_order_mark_stays(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfS=x\r\nA=1\r\n")
    assert remainder(read_envfile(tmp_path / ".env"), {"S"}, []).content == b"\xef\xbb\xbfA=1\r\n"


def test_comments_that_hold_a_value_or_an_old_one_go_too() -> None:
    rest = left("# S=older\n# was pl4nted once\n# about A\nA=1\nS=pl4nted\n", {"S"}, ["pl4nted"])
    assert rest.content == b"# about A\nA=1\n"
    assert rest.comments == 2


def test_a_short_value_takes_no_comments_along() -> None:
    assert left("# about a thing\nS=a\n", {"S"}, ["a"]).content == b"# about a thing\n"


def test_what_would_come_out_empty_is_refused() -> None:
    with pytest.raises(Failed, match="line 2: URL stays in the file and refers to S"):
        left("S=x\nURL=http://u:${S}@h\n", {"S"})


def test_what_stays_and_still_tells_is_named() -> None:
    rest = left("URL=http://u:pl4nted-pg@h\nS=pl4nted-pg\n= broken\n", {"S"}, ["pl4nted-pg"])
    assert rest.telling == ("URL",)
    assert rest.unread == (3,)
    assert rest.removed == ("S",)
