"""The rotator for Mosquitto's dynamic security plugin, against a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from secretsd_bus import BusRejected, BusSettings, Link
from secretsd_bus.dynsec import try_login

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators import Misconfigured, Refused, Retryable, configure
from secretsd.rotators.conformance import Conformance, Harness, OtherEnd, run
from secretsd.rotators.logins import Login, login_of
from tests.support.dynsec import ADMIN, ADMIN_PASSWORD, DynsecBroker
from tests.support.silence import silence
from tests.support.tls import make_server_certificate
from tests.support.waiting import free_port
from tests.unit.rotators.urgency import check_the_login_before_is_ended

numbers = itertools.count()
ACCOUNTS = {f"account{n}": f"the first password of account{n}" for n in range(80)}


@pytest.fixture(scope="module")
def broker() -> Iterator[DynsecBroker]:
    """A broker with an account for each test."""
    running = DynsecBroker(ACCOUNTS)
    running.start()
    yield running
    running.close()


@dataclass(kw_only=True)
class Account(OtherEnd):
    """One account of the broker."""

    broker: DynsecBroker
    client: str
    silent_port: int
    pair: tuple[str, str] | None = None

    async def accepts(self, value: Sensitive) -> bool:
        login = login_of(value, self.pair or (self.client,))
        try:
            await try_login(BusSettings(self.broker.url, username=login.username), login.password)
        except BusRejected:
            return False
        return True

    def log(self) -> str:
        return self.broker.log + self.broker.admin_file().read_text()

    def unreachable(self) -> Mapping[str, object]:
        return {**self.members, "url": f"mqtt://127.0.0.1:{free_port()}"}

    def refusing(self) -> Mapping[str, object]:
        if self.pair is not None:
            return {**self.members, "clients": [self.pair[0], "nobody"]}
        return {**self.members, "client": "nobody"}

    def silent(self) -> Mapping[str, object]:
        return {**self.members, "url": f"mqtt://127.0.0.1:{self.silent_port}", "timeout": "1s"}


def account_of(broker: DynsecBroker, silent_port: int = 0) -> Account:
    """Return an account that no other test uses."""
    client = f"account{next(numbers)}"
    return Account(
        members={
            "kind": "mosquitto",
            "url": broker.url,
            "client": client,
            "admin": ADMIN,
            "admin_password": "mqtt_admin_password",
        },
        old=Sensitive(ACCOUNTS[client].encode()),
        secrets={"mqtt_admin_password": Sensitive(ADMIN_PASSWORD.encode())},
        broker=broker,
        client=client,
        silent_port=silent_port,
    )


class TestMosquitto(Conformance):
    @pytest.fixture
    def end(self, broker: DynsecBroker) -> Iterator[Account]:
        with silence() as port:
            yield account_of(broker, port)


class TestTwoAccountsInTurn(Conformance):
    """The old login works until the rotation after, which is what a second account is for."""

    @pytest.fixture
    def end(self, broker: DynsecBroker) -> Iterator[Account]:
        with silence() as port:
            end = account_of(broker, port)
            end.pair = (end.client, account_of(broker).client)
            end.members = {key: value for key, value in end.members.items() if key != "client"} | {
                "clients": list(end.pair)
            }
            end.old_works_after_set = True
            yield end

    def test_a_plain_password_is_the_first_accounts_and_goes_over_with_its_next_rotation(self, end: Account) -> None:
        async def steps() -> None:
            assert end.pair is not None
            seen = []
            for _ in range(3):
                rotation = Harness(end)
                await rotation.set()
                await rotation.test()
                seen.append(login_of(rotation.order.new, end.pair).username)
                end.old = rotation.order.new
            assert seen == [end.pair[1], end.pair[0], end.pair[1]]

        run(steps())

    def test_after_an_urgent_rotation_the_login_before_is_ended(self, end: Account) -> None:
        run(check_the_login_before_is_ended(end))


async def test_a_live_connection_with_the_new_password_survives_a_repeated_set(broker: DynsecBroker) -> None:
    """Each change at the plugin would end it: what is in force already is not set again."""
    end = account_of(broker)
    rotation = Harness(end)
    await rotation.set()
    settings = BusSettings(broker.url, username=end.client)
    live = await Link.connect(settings, client_id="live", password=rotation.order.new.reveal().decode())
    await rotation.set()
    await rotation.test()
    assert not live.closed.done()
    await live.disconnect()


async def test_a_wrong_administrators_password_may_be_one_that_is_just_rotating(broker: DynsecBroker) -> None:
    """Whoever reads it has to know which secret to look at, once it doesn't pass."""
    end = account_of(broker)
    end.secrets = {"mqtt_admin_password": Sensitive(b"not the administrator's")}
    with pytest.raises(Retryable, match=f"{ADMIN} can't log in"):
        await Harness(end).set()
    assert await end.accepts(end.old)


async def test_an_administrator_whose_own_password_is_neither_of_the_two_is_refused(broker: DynsecBroker) -> None:
    end = account_of(broker)
    end.client, end.old, end.name = ADMIN, Sensitive(b"not the administrator's"), "mqtt_admin_password"
    end.members = {**end.members, "client": ADMIN}
    with pytest.raises(Refused, match=f"{ADMIN} can't log in"):
        await Harness(end).set()


async def test_the_administrators_own_password_goes_forth_and_back(broker: DynsecBroker) -> None:
    """It is the secret that it is changed with; which one is in force depends on how far a try came."""
    end = account_of(broker)
    end.client, end.old, end.name = ADMIN, Sensitive(ADMIN_PASSWORD.encode()), "mqtt_admin_password"
    end.members = {**end.members, "client": ADMIN}
    end.secrets = {}
    rotation = Harness(end)
    for _ in range(2):
        await rotation.set()
        await rotation.set()
        await rotation.test()
        assert not await end.accepts(end.old)
        await rotation.rollback()
        await rotation.rollback()
        assert await end.accepts(end.old)


@pytest.mark.parametrize("value", [b"\xff\xfe", b"nul \0 inside", b"x" * 65_536])
def test_what_the_plugin_cannot_take_is_refused_before_anything_is_asked(value: bytes) -> None:
    """A NUL would end the text in the plugin, which is written in C."""
    members = {"url": "mqtts://broker", "client": "a", "admin": "b", "admin_password": "c"}
    with pytest.raises(Refused):
        configure({"kind": "mosquitto", **members}).build().check(Sensitive(value))


def test_of_two_accounts_a_new_password_ends_only_its_own_login() -> None:
    members = {"kind": "mosquitto", "url": "mqtt://127.0.0.1", "admin": "root", "admin_password": "root_password"}
    rotator = configure({**members, "clients": ["a", "b"]}).build()
    in_use = Login("a", "x").value
    assert rotator.displaces(in_use, Login("a", "y").value)
    assert not rotator.displaces(in_use, in_use)
    assert not rotator.displaces(in_use, Login("b", "y").value)
    assert rotator.next_account(in_use) == "b"
    assert configure({**members, "client": "a"}).build().next_account(Sensitive(b"x")) is None


@pytest.mark.parametrize(
    "members",
    [
        {"url": "mqtt://broker.lan", "client": "a"},
        {"url": "mqtt://192.0.2.1", "client": "a"},
        {"url": "https://broker.lan", "client": "a"},
        {"url": "mqtts://user:password@broker.lan", "client": "a"},
        {"url": "mqtts://broker.lan"},
        {"url": "mqtts://broker.lan", "client": "a", "clients": ["a", "b"]},
        {"url": "mqtts://broker.lan", "clients": ["a", "a"]},
        {"url": "mqtts://broker.lan", "clients": ["a", ADMIN], "admin": ADMIN},
        {"url": "mqtts://broker.lan", "clients": ["a", "b"], "client_id": "x"},
        {"url": "mqtts://broker.lan", "client": "a", "admin_password": "no name"},
    ],
)
def test_settings_that_make_no_sense_refuse_the_policy_and_repeat_no_password(members: dict[str, object]) -> None:
    common = {"kind": "mosquitto", "admin": "b", "admin_password": "c"}
    with pytest.raises(Misconfigured) as refused:
        configure(common | members)
    assert "user:password" not in str(refused.value)


@pytest.mark.parametrize(
    "members",
    [{"url": "mqtt://localhost"}, {"url": "mqtt://[::1]:1884"}, {"url": "mqtt://broker", "allow_plaintext": True}],
)
def test_without_tls_a_password_leaves_the_machine_only_where_that_is_said(members: dict[str, object]) -> None:
    configure({"kind": "mosquitto", "admin": "b", "admin_password": "c", "client": "a", **members})


async def test_over_tls_a_broker_of_another_authority_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The administrator's password goes to no stranger; and with the right authority it works."""
    files = make_server_certificate(tmp_path_factory.mktemp("ours"))
    other = make_server_certificate(tmp_path_factory.mktemp("theirs"))
    broker = DynsecBroker(ACCOUNTS, tls={key: files[key] for key in ("certfile", "keyfile")})
    broker.start()
    try:
        end = account_of(broker)
        for members, error in (
            ({"ca_file": str(other["cafile"])}, Refused),
            ({"ca_file": "/nowhere"}, Retryable),
        ):
            with pytest.raises(error):
                await Harness(end, {**end.members, **members}).set()
        rotation = Harness(end, {**end.members, "ca_file": str(files["cafile"])})
        await rotation.set()
        await rotation.test()
    finally:
        broker.close()


async def test_a_broker_that_is_killed_at_any_moment_of_a_set_takes_it_when_it_is_back() -> None:
    """The plugin writes its file before it answers; what was not answered is done again.

    Mosquitto 2.0 writes it in place: killed in the middle of that it leaves half of it, and its operator has to bring
    the last good one back.
    """
    broker = DynsecBroker(ACCOUNTS)
    broker.start()
    try:
        end = account_of(broker)
        for pause in (0.0, 0.003, 0.006, 0.012, 0.025, 0.05):
            good = broker.admin_file().read_text()
            rotation = Harness(end)
            step = asyncio.ensure_future(rotation.set())
            await asyncio.sleep(pause)
            broker.kill()
            with contextlib.suppress(Retryable):
                await step
            try:
                json.loads(broker.admin_file().read_text())
            except ValueError:
                broker.admin_file().write_text(good)
            broker.start()
            await rotation.set()
            await rotation.test()
            end.old = rotation.order.new
    finally:
        broker.close()
