"""Pages are read and compared as a person would: what the tests of documents rest on."""

from __future__ import annotations

import pytest

from tests.support.pages import blocks_of
from tests.support.reader import pattern

TEXT = """\
# Page

<!-- terminal: broker -->
<!-- fails: 2 -->
```sh
one
```

## Next

- in a list:

  ```text
  shown
    further in
  ```
"""


def test_blocks_are_found_with_their_marks_chapter_and_place() -> None:
    command, shown = blocks_of(TEXT, "page.md")
    assert (command.text, command.is_command, command.chapter) == ("one\n", True, "Page")
    assert command.marks == {"terminal": "broker", "fails": "2"}
    assert (shown.text, shown.is_command, shown.chapter) == ("shown\n  further in\n", False, "Next")
    assert (command.place, shown.place) == ("page.md:5", "page.md:13")


def test_a_block_that_is_not_closed_is_an_error() -> None:
    with pytest.raises(AssertionError, match="3 fences"):
        blocks_of("```sh\na\n```\n\n```sh\nb\n", "page.md")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a b\n", "a b\n"),
        ("version …, ok\n", "version 2 (new), ok\n"),
        ("first\n…\nlast\n", "first\nlast\n"),
        ("first\n…\nlast\n", "first\n1\n2\nlast\n"),
        ("a.c\n", "a.c   \n"),
    ],
)
def test_an_ellipsis_stands_for_whatever_is_there(shown: str, printed: str) -> None:
    assert pattern(shown).fullmatch(printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("a.c\n", "abc\n"), ("a …\n", "a\n"), ("first\nlast\n", "first\nmore\nlast\n"), ("a …\n", "a b\nc\n")],
)
def test_anything_else_has_to_be_the_same(shown: str, printed: str) -> None:
    assert pattern(shown).fullmatch(printed) is None
