"""Which kinds of rotators there are, and how a rule's mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import PolicyError
from secretsd.policy import parse
from secretsd.rotators import Misconfigured, Order, configure, kinds
from secretsd.rotators.registry import RETRIES, TIMEOUT_MS
from tests.support.rotators import install

OURS = """
from secretsd.rotators import Rotator, RotatorConfig


class Admin(RotatorConfig, frozen=True):
    user: str
    secret: str


class Settings(RotatorConfig, frozen=True):
    host: str
    port: int = 5432
    admin: Admin | None = None

    def __post_init__(self):
        if not self.host:
            raise ValueError("host: a name or an address")

    def reads(self):
        return (self.admin.secret,) if self.admin else ()


class Example(Rotator[Settings]):
    config_type = Settings

    async def set(self, order):
        pass

    async def test(self, order):
        pass


class Tidy(Example):
    async def finish(self, order):
        pass


class NotOne:
    pass
"""


@pytest.fixture(autouse=True)
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ours"
    folder.mkdir()
    install(folder, OURS, example="Example", tidy="Tidy", wrong="NotOne", broken="Missing")
    monkeypatch.syspath_prepend(str(folder))


def complaint(rotator: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse(f"secrets:\n  db_password:\n    rotator: {rotator}\n".encode())
    return str(caught.value)


def test_a_kind_of_another_distribution_is_found_by_its_entry_point_and_given_its_settings() -> None:
    rule = parse(
        b"secrets:\n  db_password:\n    rotator: {kind: example, host: db, admin: {user: root, secret: root_pw}}\n"
    ).rule_for("db_password")
    assert rule.type == "password"
    assert rule.rotator is not None
    assert rule.rotator.config.reads() == ("root_pw",)
    assert (rule.rotator.timeout_ms, rule.rotator.retries) == (TIMEOUT_MS, RETRIES)
    assert rule.rotator.build().config is rule.rotator.config


def test_time_limit_and_retries_belong_to_every_kind() -> None:
    rule = configure({"kind": "example", "host": "db", "timeout": "5s", "retries": 0})
    assert (rule.timeout_ms, rule.retries) == (5000, 0)


@pytest.mark.parametrize(
    ("rotator", "told"),
    [
        ("{kind: exampel}", ['secrets.db_password.rotator.kind: there is no kind "exampel"; did you mean example?']),
        ("{host: db}", ["rotator.kind: kind is missing", "example"]),
        ("example", ["secrets.db_password.rotator: found a string; allowed: a mapping with a kind"]),
        ("{kind: example}", ["rotator: host is missing; allowed: a string"]),
        ("{kind: example, host: db, prot: 1}", ['unknown key "prot"; did you mean port?', "host, port, admin, kind"]),
        (
            "{kind: example, host: db, admin: {usr: root, secret: s}}",
            ['rotator.admin: unknown key "usr"; did you mean user? allowed: user, secret'],
        ),
        ("{kind: example, host: 7}", ["rotator.host: found an integer; allowed: a string"]),
        ("{kind: example, host: db, admin: root}", ["admin: found a string; allowed: a mapping with user, secret"]),
        (
            "{kind: example, host: db, port: 99999999999999999999999}",
            ["rotator.port: found an integer; allowed: a string in quotes, a decimal integer of at most 16 digits"],
        ),
        ('{kind: example, host: ""}', ["host: a name or an address"]),
        ("{kind: example, host: db, host: db}", ['the key "host" is there twice']),
        ("{kind: example, host: 2027-01-01}", ["rotator.host: found a time"]),
        ("{kind: example, host: db, timeout: 5}", ["rotator.timeout", '"1s" to "60m"']),
        ("{kind: example, host: db, retries: 101}", ["rotator.retries", "a whole number from 0 to 100"]),
        ("{kind: wrong}", ["is no rotator"]),
        ("{kind: broken}", ["can't be loaded", "AttributeError"]),
    ],
)
def test_a_mistake_is_refused_with_its_place_and_what_is_allowed(rotator: str, told: list[str]) -> None:
    said = complaint(rotator)
    assert "line 3" in said
    for part in told:
        assert part in said


def test_what_stands_at_the_wrong_place_is_told_by_its_kind_alone() -> None:
    assert "hunter2" not in complaint('{kind: example, host: db, port: "hunter2"}')


def test_a_signing_key_has_no_other_end() -> None:
    with pytest.raises(PolicyError, match="no other end"):
        parse(b"secrets:\n  a: {type: jwt_signing_key, rotator: {kind: example, host: db}}\n")


POSTGRES = "kind: postgres, host: db.lan"
MOSQUITTO = 'kind: mosquitto, url: "mqtts://broker.lan", admin: root, admin_password: db_password'


@pytest.mark.parametrize(
    ("rotator", "allowed"),
    [
        (f"{MOSQUITTO}, clients: [x, y]", "client: root for the administrator's own password"),
        (f"{MOSQUITTO}, client: x", "client: root for the administrator's own password"),
        (f"{POSTGRES}, roles: [a, b], admin: {{user: z, secret: db_password}}", "another secret, or role: z"),
        (f"{POSTGRES}, role: a, admin: {{user: z, secret: db_password}}", "another secret, or role: z"),
    ],
)
def test_an_administrators_secret_that_is_anothers_password_is_refused(rotator: str, allowed: str) -> None:
    said = complaint(f"{{{rotator}}}")
    assert "line 2: secrets.db_password.rotator: admin" in said
    assert "db_password is rotated by this rule" in said
    assert allowed in said


@pytest.mark.parametrize(
    "rotator",
    [
        'kind: mosquitto, url: "mqtts://broker.lan", client: root, admin: root, admin_password: root_password',
        f"{POSTGRES}, role: z, admin: {{user: z, secret: root_password}}",
    ],
)
def test_an_administrators_password_that_rotates_under_another_name_than_its_secret_is_refused(rotator: str) -> None:
    said = complaint(f"{{{rotator}}}")
    assert "line 2: secrets.db_password.rotator: it rotates the password of the administrator" in said
    assert "this rule for root_password itself, or another account" in said


@pytest.mark.parametrize(
    "rules",
    [
        f"db_password: {{rotator: {{{MOSQUITTO}, client: root}}}}",
        f"db_password: {{rotator: {{{POSTGRES}, role: z, admin: {{user: z, secret: db_password}}}}}}",
        f'db_password: {{type: password}}\n  "*_password": {{rotator: {{{MOSQUITTO}, client: x}}}}',
    ],
)
def test_an_administrators_own_password_and_one_under_another_rule_are_taken(rules: str) -> None:
    parse(f"secrets:\n  {rules}\n".encode())


def test_ours_and_others_are_listed_together() -> None:
    assert {"example", "tidy"} <= {*kinds()}


def test_only_a_rotator_that_overrides_it_tidies_up() -> None:
    assert not configure({"kind": "example", "host": "db"}).build().finishes(urgent=False)
    assert configure({"kind": "tidy", "host": "db"}).build().finishes(urgent=False)


async def test_unless_a_rotator_knows_better_rolling_back_is_setting_the_old_value() -> None:
    rotator = configure({"kind": "example", "host": "db"}).build()
    taken: list[bytes] = []

    async def take(order: Order) -> None:
        taken.append(order.new.reveal())

    rotator.set = take  # type: ignore[method-assign]  # the class is made in the test's own distribution

    async def read(name: str) -> Sensitive:
        raise AssertionError(name)

    order = Order(
        name="db_password",
        token="t",
        version=2,
        new=Sensitive(b"new"),
        old=Sensitive(b"old"),
        read=read,
        sign=lambda kind, data: b"",
    )
    await rotator.rollback(order)
    assert taken == [b"old"]


def test_nothing_configured_twice_under_one_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "theirs"
    other.mkdir()
    install(other, OURS, example="Example")
    monkeypatch.syspath_prepend(str(other))
    with pytest.raises(Misconfigured, match="several installed distributions"):
        configure({"kind": "example", "host": "db"})
