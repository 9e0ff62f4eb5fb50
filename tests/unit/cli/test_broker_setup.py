"""broker setup: what it refuses, what it does with other files, and that mosquitto/ is what it writes.

`python -m tests.unit.cli.test_broker_setup` writes mosquitto/ anew.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secretsd import config
from secretsd.cli.errors import Failed
from secretsd.cli.mosquitto.files import marked
from secretsd.cli.mosquitto.plan import Places, Plan, Wishes, names_in, work_out
from secretsd.policy import parse
from tests.support.tls import make_server_certificate
from tests.unit.cli.installation import Installation

EXAMPLE = """
clients:
  admin: {allow: ["*"], can: [read, write, rotate, delete, audit]}
  backend: {allow: [jwt_signing_key, postgres_password, jarvis_encryption_key, home_assistant_token]}
  python-services: {allow: [brave_api_key, tavily_api_key, duckduckgo_api_key, postgres_password]}
  postgres: {allow: [postgres_password]}
  ha-client: {allow: [home_assistant_token]}
  mcp: {allow: [brave_api_key, tavily_api_key, browserbase_api_key]}
"""
NO_WISHES = Wishes()
REPOSITORY = Path(__file__).parents[3] / "mosquitto"


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    made = Installation(tmp_path)
    made.configure({"bus": {"enabled": True, "url": "mqtt://127.0.0.1:1883", "topic_prefix": "jarvis/secretsd"}})
    (tmp_path / "mosquitto" / "conf.d").mkdir(parents=True)
    return made


def plan(place: Installation, wishes: Wishes = NO_WISHES) -> Plan:
    folder = place.folder / "mosquitto"
    places = Places(folder / "conf.d" / "jarvis.conf", folder / "jarvis", place.folder / "etc" / "mqtt")
    return work_out(config.load(place.config_path, {}), parse(EXAMPLE.encode()), [], places, wishes)


def content(made: Plan, name: str) -> str:
    return next(one.content for one in made.files if one.path.name == name)


def expected(made: Plan, name: str) -> str:
    """Return a file as it is where Debian has it."""
    folder = str(next(one.path for one in made.files if one.path.name == "acl").parent)
    return content(made, name).replace(folder, "/etc/mosquitto/jarvis")


@pytest.mark.parametrize(("committed", "written"), [("acl", "acl"), ("mosquitto.conf", "jarvis.conf")])
def test_the_files_in_mosquitto_are_what_is_written_for_the_example(
    place: Installation, committed: str, written: str
) -> None:
    made = plan(place, Wishes(homeassistant="homeassistant"))
    assert (REPOSITORY / committed).read_text() == expected(made, written)


@pytest.mark.parametrize("name", ["conf.d/jarvis.conf", "jarvis/acl", "jarvis/passwords"])
def test_a_link_in_the_place_of_a_file_is_refused(place: Installation, name: str) -> None:
    link = place.folder / "mosquitto" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(place.folder / "elsewhere")
    with pytest.raises(Failed, match=f"{name} is a link: name the file itself"):
        plan(place)


@pytest.mark.parametrize(
    ("bus", "said"),
    [
        ({"username": "backend"}, "somebody else's name"),
        ({"url": "mqtt://broker.lan:1883"}, "without TLS"),
        ({"url": "mqtts://broker.lan"}, "needs the broker's certificate"),
    ],
)
def test_what_would_not_be_safe_is_refused(place: Installation, bus: dict[str, Any], said: str) -> None:
    place.configure({"bus": bus})
    with pytest.raises(Failed, match=said) as caught:
        plan(place)
    assert caught.value.hint


def test_a_user_that_is_not_there_cannot_be_renewed(place: Installation) -> None:
    with pytest.raises(Failed, match="nobody is no user of the broker"):
        plan(place, Wishes(renew=("nobody",)))


@pytest.mark.parametrize("file", ["mosquitto.conf", "conf.d/other.conf"])
@pytest.mark.parametrize(
    "line",
    [
        "allow_anonymous true",
        "password_file /x",
        "acl_file /x",
        "listener 1883",
        "port 1883",
        "per_listener_settings true",
        "per_listener_settings 1",
    ],
)
def test_what_another_configuration_says_against_it_is_named(place: Installation, file: str, line: str) -> None:
    (place.folder / "mosquitto" / file).write_text(f"# {line}\n{line}\n")
    with pytest.raises(Failed, match=f"says `{line}`") as caught:
        plan(place)
    assert file in str(caught.value)


def test_what_may_be_said_once_is_left_to_who_says_it_already(place: Installation) -> None:
    assert "\npersistence_location /var/lib/mosquitto/\n" in content(plan(place), "jarvis.conf")
    (place.folder / "mosquitto" / "mosquitto.conf").write_text(
        "persistence true\npersistence_location /var/lib/mosquitto/\nlistener 1884\n"
    )
    assert "\npersistence_location" not in content(plan(place), "jarvis.conf")


@pytest.fixture
def pair() -> Iterator[dict[str, Path]]:
    """A certificate and its key, where Mosquitto's user may read them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        files = make_server_certificate(folder)
        files["keyfile"].chmod(0o644)
        yield files


def test_a_certificate_is_kept_by_the_next_run(place: Installation, pair: dict[str, Path]) -> None:
    place.configure({"bus": {"url": "mqtts://broker.lan"}})
    first = plan(place, Wishes(cert=pair["certfile"], key=pair["keyfile"]))
    for one in first.files:
        one.write()
    text = content(plan(place), "jarvis.conf")
    assert f"\nlistener 8883\ncertfile {pair['certfile']}\nkeyfile {pair['keyfile']}\n" in text
    pair["keyfile"].unlink()
    with pytest.raises(Failed, match=f"{pair['keyfile']} can't be used"):
        plan(place)


@pytest.mark.parametrize(("cert", "key"), [("keyfile", "certfile"), ("cafile", "keyfile"), ("certfile", "certfile")])
def test_what_is_no_certificate_and_its_key_is_refused(
    place: Installation, pair: dict[str, Path], cert: str, key: str
) -> None:
    place.configure({"bus": {"url": "mqtts://broker.lan"}})
    with pytest.raises(Failed, match="aren't a certificate and its key") as caught:
        plan(place, Wishes(cert=pair[cert], key=pair[key]))
    assert "--broker-key" in str(caught.value.hint)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")
def test_a_key_that_the_brokers_user_cannot_read_is_refused(place: Installation, pair: dict[str, Path]) -> None:
    place.configure({"bus": {"url": "mqtts://broker.lan"}})
    (place.folder / "mosquitto/mosquitto.conf").write_text("user nobody\n")
    wishes = Wishes(cert=pair["certfile"], key=pair["keyfile"])
    plan(place, wishes)
    pair["keyfile"].chmod(0o600)
    with pytest.raises(Failed, match=f"{pair['keyfile']} can't be read by nobody"):
        plan(place, wishes)
    pair["keyfile"].chmod(0o644)
    pair["keyfile"].parent.chmod(0o700)
    with pytest.raises(Failed, match="can't be read by nobody"):
        plan(place, wishes)


@pytest.mark.parametrize("name", ["homeassistant", "ha-client"])
def test_home_assistants_user_is_kept_by_the_next_run_and_taken_out_by_its_own_wish(
    place: Installation, name: str
) -> None:
    first = plan(place, Wishes(homeassistant=name))
    for one in first.files:
        one.write()
    acl = place.folder / "mosquitto/jarvis/acl"
    acl.write_text("# Home Assistant\nuser not-of-ours\ntopic read x\n\n" + acl.read_text())
    assert f"# Home Assistant\nuser {name}\n" in content(plan(place), "acl")
    assert name in {one.user for one in plan(place, Wishes(renew=(name,))).logins}
    other = content(plan(place, Wishes(homeassistant="other")), "acl")
    assert "# Home Assistant\nuser other\n" in other
    assert f"# Home Assistant\nuser {name}\n" not in other
    without = content(plan(place, Wishes(homeassistant="")), "acl")
    assert without.count("# Home Assistant") == 1
    assert "user not-of-ours\n" in without


@pytest.mark.parametrize("address", ["127.0.0.1", "172.18.0.2", "fd00::2"])
def test_a_private_address_may_be_named_without_tls(place: Installation, address: str) -> None:
    place.configure({"bus": {"url": "mqtt://mosquitto:1883"}})
    named = plan(place, Wishes(listen=(address, 1884)))
    assert f"\nlistener 1884 {address}\n" in content(named, "jarvis.conf")
    assert named.warning is None


@pytest.mark.parametrize(
    ("address", "said"), [("0.0.0.0", "all of this machine's"), ("::", "all of"), ("8.8.8.8", "8.8.8.8, a public")]
)
def test_an_address_that_strangers_reach_comes_with_a_warning(place: Installation, address: str, said: str) -> None:
    place.configure({"bus": {"url": "mqtt://mosquitto:1883"}})
    named = plan(place, Wishes(listen=(address, 1884)))
    assert f"\nlistener 1884 {address}\n" in content(named, "jarvis.conf")
    assert said in str(named.warning)
    assert "--broker-cert" in str(named.warning)


def test_with_tls_any_address_will_do(place: Installation, pair: dict[str, Path]) -> None:
    place.configure({"bus": {"url": "mqtts://broker.lan"}})
    named = plan(place, Wishes(listen=("0.0.0.0", 8883), cert=pair["certfile"], key=pair["keyfile"]))
    assert named.warning is None


def test_a_password_that_others_may_read_is_refused(place: Installation) -> None:
    for one in plan(place).files:
        one.write()
    (place.folder / "etc/mqtt/backend.password").chmod(0o644)
    with pytest.raises(Failed, match="chmod 600"):
        plan(place)


def test_the_daemons_password_is_made_anew_where_it_cannot_be_read_any_more(place: Installation) -> None:
    for one in plan(place).files:
        one.write()
    (place.folder / "etc/mqtt.password").unlink()
    again = {one.user: one.made for one in plan(place).logins}
    assert (again["secretsd"], again["backend"]) == ("new", "kept")


def test_mosquitto_may_read_its_configuration_as_a_user_of_its_own_and_no_other_file_is_others_to_read(
    place: Installation,
) -> None:
    listener = place.folder / "mosquitto/conf.d/jarvis.conf"
    for _ in ("new", "unchanged"):
        for one in plan(place).files:
            one.write()
        assert {one.path.name for one in plan(place).files if one.path.stat().st_mode & 0o077} == {"jarvis.conf"}
        assert stat.S_IMODE(listener.stat().st_mode) == 0o644
        listener.chmod(0o600)  # as it was written before


def test_what_was_interrupted_is_completed_by_the_next_run(place: Installation) -> None:
    whole = plan(place)
    for one in whole.files[:3]:
        one.write()
    for one in plan(place).files:
        one.write()
    assert plan(place).changed == []


def test_the_vaults_names_are_read_from_its_file(tmp_path: Path) -> None:
    vault = tmp_path / "vault.json"
    assert names_in(vault) == []
    vault.write_text('{"secrets": {"b": {}, "a": {}, "no name\\ntopic readwrite #": {}}}')
    assert names_in(vault) == ["a", "b"]
    for text in ("", "[]", "{}", '{"secrets": 7}'):
        vault.write_text(text)
        with pytest.raises(Failed, match="no vault"):
            names_in(vault)


def test_lines_outside_of_the_marks_never_become_a_clients_rights() -> None:
    path = Path("/acl")
    first = marked(path, None, "user a\ntopic read x", last=True)
    again = marked(path, first + "topic readwrite #\n", "user a\ntopic read x", last=True)
    assert again.index("topic readwrite #") < again.index("user a")
    assert marked(path, again, "user a\ntopic read x", last=True) == again


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        example = Installation(Path(folder))
        example.configure({"bus": {"enabled": True, "url": "mqtt://127.0.0.1:1883", "topic_prefix": "jarvis/secretsd"}})
        ready = plan(example, Wishes(homeassistant="homeassistant"))
        (REPOSITORY / "acl").write_text(expected(ready, "acl"))
        (REPOSITORY / "mosquitto.conf").write_text(expected(ready, "jarvis.conf"))
