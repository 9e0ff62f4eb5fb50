"""What doesn't fit a struct is told with its place, what was found and what is allowed, and never with a value."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from secretsd.config.misfits import reworded
from secretsd.config.reader import KINDS
from secretsd.model import SecretName


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    user: str
    secret: SecretName


Letter = Annotated[str, Meta(pattern="^[A-Z]$", description="one capital letter")]


class Outer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    inner: Inner | None = None
    port: Annotated[int, Meta(ge=1, le=65_535)] = 1
    mode: Literal["a", "b"] | None = None
    pair: tuple[str, str] | None = None
    names: Annotated[list[SecretName], Meta(min_length=2)] | None = None
    free: dict[Annotated[str, Meta(pattern="^[A-Z]+$")], SecretName] = {}
    said: Letter | None = None
    said_of_keys: dict[Letter, int] = {}
    ratio: Annotated[float, Meta(gt=0)] | bool = True

    def __post_init__(self) -> None:
        if self.port == 7:
            raise ValueError("port: not seven")


@pytest.mark.parametrize(
    ("given", "place", "told"),
    [
        ({"inner": "hunter2"}, "inner", "found a string; allowed: a table with user, secret"),
        ({"inner": {"user": 5, "secret": "x"}}, "inner.user", "found an integer; allowed: a string"),
        ({"inner": {"user": "x", "secret": "hunter 2"}}, "inner.secret", "found a string; allowed: a secret's name"),
        ({"inner": {"user": "x"}}, "inner", "secret is missing; allowed: a secret's name"),
        ({"inner": {"usr": "x"}}, "inner", 'unknown key "usr"; did you mean user? allowed: user, secret'),
        ({"por": 1}, "", 'unknown key "por"; did you mean port? allowed: inner, port'),
        ({"port": 65_536}, "port", "found an integer; allowed: an integer from 1 to 65535"),
        ({"port": 7}, "", "port: not seven"),
        ({"mode": "hunter2"}, "mode", "found a string; allowed: a, b"),
        ({"pair": ["hunter2"]}, "pair", "found an array of 1; allowed: an array of 2 members"),
        ({"pair": ["x", 5]}, "pair.1", "found an integer; allowed: a string"),
        (
            {"names": ["x"]},
            "names",
            "found an array of 1; allowed: an array of at least 2 members, each a secret's name",
        ),
        ({"names": ["x", "hunter 2"]}, "names.1", "found a string; allowed: a secret's name"),
        ({"free": {"A": "hunter 2"}}, "free", "a value doesn't fit; allowed: a secret's name"),
        ({"free": {"hunter2": "x"}}, "free", "a key doesn't fit; allowed: a string that matches ^[A-Z]+$"),
        ({"said": "hunter2"}, "said", "found a string; allowed: one capital letter"),
        ({"said_of_keys": {"hunter2": 1}}, "said_of_keys", "a key doesn't fit; allowed: one capital letter"),
        ({"ratio": "hunter2"}, "ratio", "found a string; allowed: a number, more than 0 or true or false"),
    ],
)
def test_a_misfit_is_told_with_its_place_what_was_found_and_what_is_allowed(
    given: dict[str, Any], place: str, told: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(given, Outer)
    misfit = reworded(str(refused.value), Outer, given, KINDS, beside=("kind",))
    assert ".".join(misfit.path) == place
    assert misfit.complaint.startswith(told)
    assert "hunter" not in misfit.complaint
    assert not misfit.complaint.startswith("unknown") or misfit.complaint.endswith(", kind") == (not place)
