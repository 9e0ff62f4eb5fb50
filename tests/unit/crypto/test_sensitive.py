from __future__ import annotations

import copy
import logging
import pickle
import traceback

import pytest

from secretsd.crypto.sensitive import Sensitive

PLANTED = b"planted-value-0123456789"
SECRET = Sensitive(PLANTED)


@pytest.mark.parametrize(
    "shown",
    [
        repr(SECRET),
        str(SECRET),
        f"{SECRET}",
        f"{SECRET!r:>60}",
        f"{SECRET:>60}",
        "{:s}".format(SECRET),  # noqa: UP032
        "%s %r" % (SECRET, SECRET),  # noqa: UP031
        repr([SECRET]),
        repr({"value": SECRET}),
        ascii(SECRET),
    ],
)
def test_no_way_of_printing_shows_the_value(shown: str) -> None:
    assert "planted" not in shown
    assert "redacted" in shown


def test_a_traceback_that_shows_its_locals_does_not_show_the_value() -> None:
    def fails(value: Sensitive) -> None:
        raise RuntimeError(f"can't use {value}")

    try:
        fails(SECRET)
    except RuntimeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "Sensitive(redacted)" in shown
    assert "planted-" not in shown


def test_a_log_line_does_not_show_the_value(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("got %s, %r", SECRET, SECRET)
    assert "planted" not in caplog.text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_can_not_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(SECRET, protocol)


def test_it_can_not_be_copied_unnoticed() -> None:
    with pytest.raises(TypeError):
        copy.deepcopy(SECRET)


def test_it_can_not_be_hashed_so_it_is_no_key_of_a_dict() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(SECRET)


def test_it_equals_the_same_bytes_and_nothing_else() -> None:
    assert Sensitive(PLANTED) == SECRET
    assert Sensitive(PLANTED[:-1]) != SECRET
    assert SECRET != PLANTED


def test_it_has_no_attributes_for_a_dump_to_find() -> None:
    assert not hasattr(SECRET, "__dict__")
    assert SECRET.reveal() == PLANTED
