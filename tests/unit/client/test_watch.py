"""Who is told of which version."""

from secretsd_client._model import Secret
from secretsd_client._watch import Watchers


def version(kid: str) -> Secret:
    return Secret("db", "value", kid, 1, "9999-12-31T23:59:59.999Z")


def callback(_: Secret) -> None:
    """Nothing."""


def test_a_callback_hears_of_another_version_only_and_of_each_once():
    watchers = Watchers()
    watchers.add("db", callback)
    assert watchers.stored(version("a")) == ((), True)
    assert watchers.stored(version("a")) == ((), False)
    assert watchers.stored(version("b")) == ((callback,), False)
    assert watchers.stored(version("b")) == ((), False)


def test_who_was_given_a_version_hears_of_the_next_one_until_it_stops():
    watchers = Watchers()
    watchers.given["db"] = "a"
    watchers.add("db", callback)
    assert watchers.stored(version("b")) == ((callback,), False)
    assert watchers.remove("db", callback)
    assert watchers.stored(version("c")) == ((), False)
