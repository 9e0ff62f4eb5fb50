"""The rotator `postgres` passes the suite, with one role and with two, against a real server."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators.conformance import Conformance, OtherEnd
from tests.support.postgres import SUPERUSER, Postgres, needs_postgres
from tests.support.silence import silence
from tests.support.tls import make_server_certificate
from tests.support.waiting import free_port

pytestmark = needs_postgres

FIRST = "the first password of this role"


@dataclass(kw_only=True)
class Role(OtherEnd):
    postgres: Postgres
    role: str
    silent_port: int
    folder: Path

    async def accepts(self, value: Sensitive) -> bool:
        role, password = self._login(value.reveal().decode())
        return self.postgres.accepts(role, password)

    def _login(self, text: str) -> tuple[str, str]:
        if text.startswith("{"):
            members = json.loads(text)
            return members["username"], members["password"]
        if text.startswith("postgresql://"):
            parts = urlsplit(text)
            return unquote(parts.username or ""), unquote(parts.password or "")
        return self.role, text

    def log(self) -> str:
        """What it says of these roles: a test makes them with a password in a statement, which the log shows."""
        return "\n".join(line for line in self.postgres.log.splitlines() if "CREATE ROLE" not in line)

    def unreachable(self) -> Mapping[str, object]:
        return {**self.members, "port": free_port()}

    def refusing(self) -> Mapping[str, object]:
        other = make_server_certificate(Path(tempfile.mkdtemp(dir=self.folder)))["cafile"]
        return {**self.members, "ca_file": str(other)}

    def silent(self) -> Mapping[str, object]:
        return {**self.members, "port": self.silent_port, "timeout": "1s"}


@pytest.fixture
def one(postgres: Postgres, new_role: Callable[[str], str], tmp_path: Path) -> Iterator[Role]:
    role = new_role(FIRST)
    with silence() as port:
        yield Role(
            members={
                "kind": "postgres",
                "host": "127.0.0.1",
                "port": postgres.port,
                "role": role,
                "ca_file": str(postgres.authority),
            },
            old=Sensitive(FIRST.encode()),
            postgres=postgres,
            role=role,
            silent_port=port,
            folder=tmp_path,
        )


@pytest.fixture
def administered(one: Role) -> Role:
    """The same, with somebody who may change it."""
    one.members = {**one.members, "admin": {"user": SUPERUSER, "secret": "pg_admin_password"}}
    one.secrets = {"pg_admin_password": Sensitive(one.postgres.password.encode())}
    return one


class TestARoleThatChangesItsOwnPassword(Conformance):
    @pytest.fixture
    def end(self, one: Role) -> Role:
        return one


class TestARoleWithAnAdministrator(Conformance):
    @pytest.fixture
    def end(self, administered: Role) -> Role:
        return administered


class TestTwoRolesInTurn(Conformance):
    @pytest.fixture
    def end(self, administered: Role, new_role: Callable[[str], str]) -> Role:
        roles = [administered.role, new_role(FIRST)]
        kept = {key: value for key, value in administered.members.items() if key != "role"}
        administered.members = {**kept, "roles": roles, "value": "json"}
        administered.old_works_after_set = True
        return administered
