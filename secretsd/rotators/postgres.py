"""The kind `postgres`: the password of a role, or of two roles in turn.

The server is sent a SCRAM verifier that libpq computes here (RFC 5802, with SASLprep), never the password: neither its
log nor its statistics of statements can hold it. Logging in proves the password without sending it, too.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Collection, Iterator
from typing import Annotated, Any, Final, Literal

import psycopg
from msgspec import Meta
from psycopg import pq, sql

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators.errors import Refused, Retryable
from secretsd.rotators.interface import Order, Rotator, RotatorConfig, SecretName
from secretsd.rotators.logins import ending
from secretsd.rotators.pgvalue import Form, Login, Place, read, read_leniently, write
from secretsd.rotators.places import stays_here

CONNECT_SECS: Final = 10
STATEMENT_MS: Final = 10_000
LIBPQ_16: Final = 160_000
"""From this version on libpq can be told to answer nothing but SCRAM, and knows the system's authorities."""

RoleName = Annotated[str, Meta(min_length=1, max_length=63)]
Connection = psycopg.AsyncConnection[Any]


class Admin(RotatorConfig, frozen=True):
    """Who changes the password: a role, and the secret that holds its own."""

    user: RoleName
    secret: SecretName


class PostgresConfig(RotatorConfig, frozen=True):
    """Where the server is, and whose password the secret is."""

    host: Annotated[str, Meta(min_length=1, max_length=255)]
    port: Annotated[int, Meta(ge=1, le=65_535)] = 5432
    database: RoleName = "postgres"
    role: RoleName | None = None
    roles: Annotated[list[RoleName], Meta(min_length=2, max_length=2)] | None = None
    admin: Admin | None = None
    value: Form | None = None
    sslmode: Literal["verify-full", "disable"] | None = None
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if (self.role is None) == (self.roles is None):
            raise ValueError("role, or roles for two in turn: one of the two")
        if self.roles is not None:
            if len(set(self.roles)) != len(self.roles):
                raise ValueError("roles: two different ones")
            if self.value == "password":
                raise ValueError("value: url or json, since with two roles a client has to learn which one it is")
            if self.admin is None:
                raise ValueError("admin: with two roles somebody else has to set their passwords")
            if self.admin.user in self.roles:
                raise ValueError("admin: somebody else than the two roles, whose passwords it sets")
        if self.sslmode == "disable" and not stays_here(self.host):
            raise ValueError("sslmode: disable is only for a Unix socket and for loopback")
        if self.ca_file is not None and not self.ca_file.startswith("/"):
            raise ValueError("ca_file: an absolute path")

    def reads(self) -> tuple[str, ...]:
        """Return the administrator's secret."""
        return () if self.admin is None else (self.admin.secret,)

    def check_own(self, secret: str) -> None:
        """Refuse an administrator whose password would be another role's. Raises ValueError."""
        if self.admin is not None and self.role != self.admin.user:
            raise ValueError(
                f"admin.secret: {secret} is rotated by this rule, so it isn't {self.admin.user}'s password; allowed: "
                f"another secret, or role: {self.admin.user} for the administrator's own password"
            )

    def own_reads(self) -> tuple[str, ...]:
        """Return the administrator's secret where it is the administrator's password that rotates."""
        return () if self.admin is None or self.role != self.admin.user else (self.admin.secret,)

    @property
    def own(self) -> tuple[str, ...]:
        """The roles whose password the secret is, the one to begin with first."""
        return tuple(self.roles or ()) or (self.role or "",)

    @property
    def form(self) -> Form:
        """What the secret's value looks like."""
        return self.value or ("password" if self.roles is None else "url")

    @property
    def tls(self) -> str:
        """The sslmode that holds."""
        return self.sslmode or ("disable" if self.host.startswith("/") else "verify-full")


class Postgres(Rotator[PostgresConfig]):
    """Sets and tries passwords."""

    config_type = PostgresConfig

    def shape(self, generated: Sensitive, current: Sensitive) -> Sensitive:
        """Return the next value: of the other role, where there are two."""
        config = self.config
        role = self.next_account(current) or config.own[0]
        place = Place(config.host, config.port, config.database, config.tls)
        return write(Login(role, generated.reveal().decode()), config.form, current, place)

    def check(self, value: Sensitive) -> None:
        """Refuse what is no login of one of the roles."""
        self._own(read(value, self.config.form, self.config.own[0]))

    def displaces(self, kept: Sensitive, new: Sensitive) -> bool:
        """Tell whether `kept` is of the role that gets another password; with one role it is dead already."""
        if self.config.roles is None:
            return False
        old, coming = (read_leniently(one, self.config.form, self.config.own[0]) for one in (kept, new))
        return old.role == coming.role and old.password != coming.password

    def next_account(self, current: Sensitive) -> str | None:
        """Return which of two roles isn't in use."""
        if self.config.roles is None:
            return None
        now = read_leniently(current, self.config.form, self.config.own[0])
        return next(one for one in self.config.own if one != now.role)

    async def set(self, order: Order) -> None:
        """Give the role the new password, as the administrator, or as the role itself."""
        login = self._login(order.new)
        admin = self.config.admin
        if admin is not None and admin.secret != order.name:
            password = (await order.read(admin.secret)).reveal().decode()
            async with self._connected(Login(admin.user, password)) as connection:
                await _alter(connection, login)
            return
        # The role changes its own password: with the one that is in force, which after a crash may be the new one.
        with contextlib.suppress(Refused, Retryable):
            async with self._connected(login):
                return
        old = read_leniently(order.old, self.config.form, self.config.own[0])
        async with self._connected(old) as connection:
            await _alter(connection, login)

    async def test(self, order: Order) -> None:
        """Log in with the new value, and ask the server who that is."""
        login = self._login(order.new)
        async with self._connected(login) as connection:
            with _told():
                found = await (await connection.execute("SELECT session_user")).fetchone()
        if found != (login.role,):
            raise Refused(f"the server takes {login.role} for somebody else: look at pg_ident.conf")

    def finishes(self, *, urgent: bool) -> bool:
        """Tell whether the login before has to be ended: with two roles it would work until the next rotation."""
        return urgent and self.config.roles is not None

    async def finish(self, order: Order) -> None:
        """End the login before: give its role a password that nobody knows."""
        before = self.next_account(order.new)
        admin = self.config.admin
        if before is None or admin is None:
            return
        administrator = Login(admin.user, (await order.read(admin.secret)).reveal().decode())
        with ending(before) as password:
            async with self._connected(administrator) as connection:
                await _alter(connection, Login(before, password))

    def _login(self, value: Sensitive) -> Login:
        """Return the login to set or try: on the way back from a first rotation it can be a password alone."""
        return self._own(read_leniently(value, self.config.form, self.config.own[0]))

    def _own(self, login: Login) -> Login:
        if login.role not in self.config.own:
            raise Refused(f"it has to be a login of {' or '.join(self.config.own)}")
        return login

    @contextlib.asynccontextmanager
    async def _connected(self, login: Login) -> AsyncIterator[Connection]:
        config = self.config
        options: dict[str, Any] = {
            "host": config.host,
            "port": config.port,
            "dbname": config.database,
            "user": login.role,
            "password": login.password,
            "sslmode": config.tls,
            "gssencmode": "disable",
            "connect_timeout": CONNECT_SECS,
            "application_name": "secretsd",
        }
        if config.tls != "disable":
            options["sslrootcert"] = config.ca_file or "system"
        if pq.version() >= LIBPQ_16:
            # A server that asks for the password itself, or for an MD5 of it, is given neither.
            options["require_auth"] = "scram-sha-256"
        with _told(login.role, (login.role, config.host, config.database)):
            connection = await psycopg.AsyncConnection.connect(**options, autocommit=True)
        try:
            with _told():
                await connection.execute(sql.SQL("SET statement_timeout = {}").format(STATEMENT_MS))
            yield connection
        finally:
            await connection.close()


async def _alter(connection: Connection, login: Login) -> None:
    verifier = connection.pgconn.encrypt_password(
        login.password.encode(), login.role.encode(), b"scram-sha-256"
    ).decode()
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(login.role), sql.Literal(verifier))
    with _told():
        await connection.execute(statement)


@contextlib.contextmanager
def _told(login: str | None = None, names: Collection[str] = ()) -> Iterator[None]:
    """Turn psycopg's errors into ours. What concerns rights and names is for good, the rest may pass.

    `login` is who tries to log in, `names` what the settings call things in that.
    """
    try:
        yield
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        diagnosis = error.diag.message_primary or said
        final = isinstance(error, (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject))
        final = final or (login is not None and _of_certificates(str(error), names))
        reason = diagnosis if login is None else f"{login} can't log in: {said}"
        raise (Refused if final else Retryable)(reason) from None


def _of_certificates(said: str, names: Collection[str]) -> bool:
    """Tell whether a failed connection is about a certificate: no SQLSTATE comes with one, only libpq's own text.

    What libpq quotes in it is a name or a path, and says nothing about that. `names` may hold quotes themselves.
    """
    for name in sorted(names, key=len, reverse=True):
        said = said.replace(f'"{name}"', "")
    return "certificate" in re.sub(r'"[^"]*"', "", said)
