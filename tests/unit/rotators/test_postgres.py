"""The postgres rotator on a real PostgreSQL: as an administrator, as the role itself, and with two roles in turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators import Misconfigured, Refused, Retryable, configure
from secretsd.rotators.conformance import Conformance, Harness, OtherEnd
from secretsd.rotators.pgvalue import read
from tests.support.postgres import SUPERUSER, SUPERUSER_PASSWORD, Postgres, needs_postgres
from tests.support.silence import silence
from tests.support.waiting import free_port
from tests.unit.rotators.urgency import check_the_login_before_is_ended

pytestmark = needs_postgres

OLD = "the 'old' pässword; DROP ROLE x"
ADMIN = {"admin": {"user": SUPERUSER, "secret": "pg_admin_password"}}


@dataclass(kw_only=True)
class Server(OtherEnd):
    server: Postgres
    silent_port: int

    async def accepts(self, value: Sensitive) -> bool:
        config: Any = configure(self.members).config
        login = read(value, config.form, config.own[0])
        return self.server.accepts(login.role, login.password)

    def log(self) -> str:
        return self.server.log

    def unreachable(self) -> Mapping[str, object]:
        return {**self.members, "port": free_port()}

    def refusing(self) -> Mapping[str, object]:
        return {**self.members, "role": "nobody_of_this_name", "roles": None, **ADMIN, "value": "password"}

    def silent(self) -> Mapping[str, object]:
        return {**self.members, "port": self.silent_port, "timeout": "1s"}


@pytest.fixture(scope="module")
def silent_port() -> Iterator[int]:
    with silence() as port:
        yield port


@pytest.fixture
def where(postgres: Postgres) -> dict[str, object]:
    return {
        "kind": "postgres",
        "host": "127.0.0.1",
        "port": postgres.port,
        "ca_file": str(postgres.authority),
    }


@pytest.fixture
def server_end(postgres: Postgres, silent_port: int) -> Callable[..., Server]:
    """Make the other end of a rule with these members, which begins with the value `old`."""

    def make(members: Mapping[str, object], old: Sensitive, *, old_works_after_set: bool = False) -> Server:
        return Server(
            members=members,
            old=old,
            old_works_after_set=old_works_after_set,
            secrets={"pg_admin_password": Sensitive(SUPERUSER_PASSWORD.encode())},
            server=postgres,
            silent_port=silent_port,
        )

    return make


class TestAnAdministratorSetsThePassword(Conformance):
    @pytest.fixture
    def end(
        self, server_end: Callable[..., Server], new_role: Callable[[str], str], where: dict[str, object]
    ) -> Server:
        role = new_role(OLD.replace("'", "''"))
        return server_end({**where, "role": role, **ADMIN}, Sensitive(OLD.encode()))


@pytest.mark.slow
class TestTheRoleChangesItsOwnPassword(Conformance):
    @pytest.fixture
    def end(
        self, server_end: Callable[..., Server], new_role: Callable[[str], str], where: dict[str, object]
    ) -> Server:
        role = new_role(OLD.replace("'", "''"))
        return server_end({**where, "role": role}, Sensitive(OLD.encode()))


@pytest.mark.slow
class TestTwoRolesInTurn(Conformance):
    @pytest.fixture
    def end(
        self, server_end: Callable[..., Server], new_role: Callable[[str], str], where: dict[str, object]
    ) -> Server:
        roles = [new_role(OLD.replace("'", "''")), new_role("never used")]
        members = {**where, "roles": roles, **ADMIN}
        first = (
            configure(members)
            .build()
            .shape(Sensitive(OLD.encode()), Sensitive(f"postgresql://{roles[1]}:x@h/d".encode()))
        )
        return server_end(members, first, old_works_after_set=True)


async def test_after_an_urgent_rotation_of_two_roles_the_login_before_is_ended(
    server_end: Callable[..., Server], new_role: Callable[[str], str], where: dict[str, object]
) -> None:
    roles = [new_role("x"), new_role("never used")]
    end = server_end({**where, "roles": roles, **ADMIN}, Sensitive(f"postgresql://{roles[0]}:x@h/d".encode()))
    await check_the_login_before_is_ended(end)


async def test_a_server_with_another_authoritys_certificate_is_given_nothing(
    postgres: Postgres, where: dict[str, object], tmp_path: Any
) -> None:
    from tests.support.tls import make_server_certificate

    other = make_server_certificate(tmp_path)["cafile"]
    rule = {**where, "ca_file": str(other), "role": "app", **ADMIN}
    end = Server(
        members=rule,
        old=Sensitive(b"old"),
        secrets={"pg_admin_password": Sensitive(b"x")},
        server=postgres,
        silent_port=0,
    )
    with pytest.raises(Refused, match="certificate"):
        await Harness(end).set()


@pytest.mark.parametrize("name", ["certificate", 'my"certificate"'])
async def test_a_name_is_no_certificate_that_is_at_fault(
    postgres: Postgres, where: dict[str, object], name: str
) -> None:
    end = Server(
        members={**where, "role": "app", "admin": {"user": name, "secret": "pg_admin_password"}},
        old=Sensitive(b"old"),
        secrets={"pg_admin_password": Sensitive(b"x")},
        server=postgres,
        silent_port=0,
    )
    with pytest.raises(Retryable, match="password authentication failed"):
        await Harness(end).set()


async def test_a_wrong_administrators_password_may_be_one_that_is_just_rotating(
    postgres: Postgres, new_role: Callable[[str], str], where: dict[str, object]
) -> None:
    end = Server(
        members={**where, "role": new_role("x"), **ADMIN},
        old=Sensitive(b"x"),
        secrets={"pg_admin_password": Sensitive(b"not-the-password")},
        server=postgres,
        silent_port=0,
    )
    with pytest.raises(Retryable, match=f"{SUPERUSER} can't log in"):
        await Harness(end).set()


async def test_the_log_of_a_server_that_logs_every_statement_holds_a_verifier_and_no_password(
    postgres: Postgres, new_role: Callable[[str], str], where: dict[str, object]
) -> None:
    role = new_role("x")
    end = Server(
        members={**where, "role": role, **ADMIN},
        old=Sensitive(b"x"),
        secrets={"pg_admin_password": Sensitive(SUPERUSER_PASSWORD.encode())},
        server=postgres,
        silent_port=0,
    )
    rotation = Harness(end)
    await rotation.set()
    assert f'ALTER ROLE "{role}" PASSWORD \'SCRAM-SHA-256$4096:' in postgres.log
    assert rotation.order.new.reveal().decode() not in postgres.log


async def test_a_roles_name_can_be_anything(postgres: Postgres, where: dict[str, object]) -> None:
    role = f"o\"dd; -- '{os.urandom(3).hex()}"
    postgres.execute('CREATE ROLE "' + role.replace('"', '""') + "\" LOGIN PASSWORD 'x'")
    end = Server(
        members={**where, "role": role, **ADMIN},
        old=Sensitive(b"x"),
        secrets={"pg_admin_password": Sensitive(SUPERUSER_PASSWORD.encode())},
        server=postgres,
        silent_port=0,
    )
    rotation = Harness(end)
    await rotation.set()
    await rotation.test()


async def test_the_administrators_own_password_rotates_too(
    postgres: Postgres, new_role: Callable[[str], str], where: dict[str, object]
) -> None:
    role = new_role("before")
    end = Server(
        members={**where, "role": role, "admin": {"user": role, "secret": "conformance_password"}},
        old=Sensitive(b"before"),
        server=postgres,
        silent_port=0,
    )
    rotation = Harness(end)
    await rotation.set()
    await rotation.set()
    await rotation.test()
    await rotation.rollback()
    assert postgres.accepts(role, "before")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "role, or roles for two in turn"),
        ({"role": "a", "roles": ["a", "b"]}, "role, or roles for two in turn"),
        ({"roles": ["a", "a"], **ADMIN}, "two different ones"),
        ({"roles": ["a", "b"]}, "somebody else has to set"),
        ({"roles": ["a", "z"], "admin": {"user": "z", "secret": "z_password"}}, "somebody else than the two roles"),
        ({"roles": ["a", "b"], **ADMIN, "value": "password"}, "url or json"),
        ({"role": "a", "host": "db.lan", "sslmode": "disable"}, "only for a Unix socket and for loopback"),
        ({"role": "a", "sslmode": "require"}, "found a string; allowed: disable, verify-full"),
        ({"role": "a", "ca_file": "ca.pem"}, "an absolute path"),
        ({"role": "a", "admin": {"user": "x"}}, "secret is missing; allowed: a secret's name"),
    ],
)
def test_settings_that_cant_be_meant_are_refused(members: dict[str, object], said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        configure({"kind": "postgres", "host": "127.0.0.1", **members})
    assert said in refused.value.complaint


def test_a_value_that_a_client_gives_has_to_be_of_one_of_the_roles() -> None:
    rotator = configure({"kind": "postgres", "host": "h", "roles": ["a", "b"], **ADMIN}).build()
    rotator.check(Sensitive(b"postgresql://a:x@h/d"))
    for wrong in (b"x", b"postgresql://c:x@h/d", b"postgresql://a@h/d", b"\xff", b"mysql://a:x@h/d"):
        with pytest.raises(Refused):
            rotator.check(Sensitive(wrong))


def test_a_version_of_the_role_whose_turn_it_is_ends_with_the_rotation() -> None:
    rotator = configure({"kind": "postgres", "host": "h", "roles": ["a", "b"], **ADMIN}).build()
    kept = Sensitive(b"postgresql://a:x@h/d")
    assert rotator.displaces(kept, Sensitive(b"postgresql://a:y@h/d"))
    assert not rotator.displaces(kept, Sensitive(b"postgresql://b:y@h/d"))
    assert not rotator.displaces(kept, kept)


def test_the_role_whose_turn_it_is_can_be_told() -> None:
    two = configure({"kind": "postgres", "host": "h", "roles": ["a", "b"], **ADMIN}).build()
    assert two.next_account(Sensitive(b"postgresql://a:x@h/d")) == "b"
    assert two.next_account(Sensitive(b"postgresql://b:x@h/d")) == "a"
    one = configure({"kind": "postgres", "host": "h", "role": "a", **ADMIN}).build()
    assert one.next_account(Sensitive(b"x")) is None
