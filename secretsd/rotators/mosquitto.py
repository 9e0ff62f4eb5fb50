"""`kind: mosquitto`: a client's password in a broker's dynamic security plugin (docs/rotators.md#mosquitto)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, ClassVar, Final

from msgspec import Meta
from secretsd_bus import BusError, BusLost, BusRejected, BusSettings, BusUnreachable
from secretsd_bus.dynsec import set_password, try_login

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators.errors import Refused, Retryable, RotatorError
from secretsd.rotators.interface import Order, Rotator, RotatorConfig, SecretName
from secretsd.rotators.logins import Login, ending, login_of, next_account, next_login
from secretsd.rotators.places import stays_here

Account = Annotated[str, Meta(min_length=1, max_length=255)]

WRONG_PASSWORD: Final = frozenset({0x86, 0x87})
"""How a broker says that a login is wrong: bad user name or password, not authorised (the word of 3.1.1 too)."""
MAY_PASS: Final = frozenset({0x88, 0x89, 0x93, 0x96, 0x97, 0x9F})
"""Server unavailable, busy, receive maximum, rates and quotas: another time it may be different."""
LONGEST: Final = 65_535
"""Bytes of a password in MQTT's CONNECT."""


class MosquittoConfig(RotatorConfig, frozen=True, kw_only=True):
    """The broker, the account whose password the secret is (or the two whose login it is), and who changes it."""

    url: str
    admin: Account
    admin_password: SecretName
    """The secret that holds the administrator's password; it may be the rotated one itself."""
    client: Account | None = None
    clients: tuple[Account, Account] | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_id: Annotated[str, Meta(min_length=1)] | None = None
    """The only client id that the plugin lets `client` use, where it is bound to one."""
    allow_plaintext: bool = False
    """Whether passwords may cross a network without TLS, as on the bridge between two containers."""

    def __post_init__(self) -> None:
        """Refuse what can't be an address. Raises ValueError."""
        if (self.client is None) == (self.clients is None):
            raise ValueError("give either client, or clients with the two accounts that are used in turn")
        if self.clients is not None and (self.clients[0] == self.clients[1] or self.client_id is not None):
            raise ValueError("clients are two different accounts, which are bound to no client_id")
        if self.clients is not None and self.admin in self.clients:
            raise ValueError("admin: another account than the two in clients, whose passwords it sets")
        settings = self.settings(self.admin)
        if not (settings.tls or stays_here(settings.host) or self.allow_plaintext):
            raise ValueError("mqtts:// for a broker elsewhere, or passwords go in clear (allow_plaintext: true)")

    def reads(self) -> tuple[str, ...]:
        """Return the administrator's secret."""
        return (self.admin_password,)

    def check_own(self, secret: str) -> None:
        """Refuse an administrator whose password would be another account's, or a login. Raises ValueError."""
        if self.client != self.admin:
            raise ValueError(
                f"admin_password: {secret} is rotated by this rule, so it isn't {self.admin}'s password; allowed: "
                f"another secret, or client: {self.admin} for the administrator's own password"
            )

    def own_reads(self) -> tuple[str, ...]:
        """Return the administrator's secret where it is the administrator's password that rotates."""
        return (self.admin_password,) if self.client == self.admin else ()

    def login(self, value: Sensitive) -> Login:
        """Return the account and the password that a value stands for. Raises Refused."""
        login = login_of(value, self.clients) if self.clients else Login(self.client or "", _text(value))
        _check_password(login.password)
        return login

    def settings(self, account: str) -> BusSettings:
        """Return how `account` reaches the broker."""
        ca_file, cert_file, key_file = (
            None if path is None else Path(path) for path in (self.ca_file, self.cert_file, self.key_file)
        )
        return BusSettings(self.url, username=account, ca_file=ca_file, cert_file=cert_file, key_file=key_file)


class Mosquitto(Rotator[MosquittoConfig]):
    """Sets the password as the administrator, and logs in with it as the client.

    The plugin keeps one password for each account: from `set` on the old one is dead, and live connections of the
    account are ended. With two accounts in turn the old login works until the rotation after this one.
    """

    config_type: ClassVar[type[RotatorConfig]] = MosquittoConfig

    def shape(self, generated: Sensitive, current: Sensitive) -> Sensitive:
        """Return the generated password, with two accounts the login of the one that isn't in use."""
        if self.config.clients is None:
            return generated
        return next_login(generated, current, self.config.clients).value

    def check(self, value: Sensitive) -> None:
        """Return when the plugin can take it: it is written in C, and text ends at a NUL there."""
        self.config.login(value)

    def displaces(self, kept: Sensitive, new: Sensitive) -> bool:
        """Tell whether the account of `kept` gets the password in `new`: of two, each keeps its own until its turn."""
        clients = self.config.clients
        if clients is None:
            return False
        old, coming = login_of(kept, clients), login_of(new, clients)
        return old.username == coming.username and old.password != coming.password

    def next_account(self, current: Sensitive) -> str | None:
        """Return which of two accounts isn't in use."""
        return None if self.config.clients is None else next_account(current, self.config.clients)

    async def set(self, order: Order) -> None:
        """Give the account the new password, unless it has it: each change ends the account's connections."""
        new = self.config.login(order.new)
        if not await self._logs_in(new):
            await self._give(order, new)

    def finishes(self, *, urgent: bool) -> bool:
        """Tell whether the login before has to be ended: with two accounts it would work until the next rotation."""
        return urgent and self.config.clients is not None

    async def finish(self, order: Order) -> None:
        """End the login before: give its account a password that nobody knows."""
        before = self.next_account(order.new)
        if before is None:
            return
        with ending(before) as password:
            await self._give(order, Login(before, password))

    async def _give(self, order: Order, new: Login) -> None:
        """Set a password as the administrator."""
        refusal: BusRejected | None = None
        for password in await self._admin_passwords(order):
            try:
                await set_password(self.config.settings(self.config.admin), password, new.username, new.password)
            except BusRejected as error:
                refusal = error
            except BusError as error:
                # Who changes the password of their own account is thrown out before the answer comes.
                if isinstance(error, BusLost | BusUnreachable) and await self._logs_in(new):
                    return
                raise _failed("the password can't be changed", error) from None
            else:
                return
        assert refusal is not None  # noqa: S101 — there is at least one password to try
        failure = _failed(f"the administrator {self.config.admin} can't log in", refusal)
        if order.name != self.config.admin_password and refusal.reason_code in WRONG_PASSWORD:
            # It may be rotating itself: the broker has its new password before the vault gives that out.
            raise Retryable(failure.reason)
        raise failure

    async def test(self, order: Order) -> None:
        """Connect to the broker with the new password."""
        new = self.config.login(order.new)
        try:
            await self._log_in(new)
        except BusError as error:
            raise _failed(f"{new.username} can't log in with the new password", error) from None

    async def _admin_passwords(self, order: Order) -> tuple[str, ...]:
        if order.name != self.config.admin_password:
            return (_text(await order.read(self.config.admin_password)),)
        # The administrator's own password: which of the two is in force depends on how far an earlier try came.
        return _text(order.old), _text(order.new)

    async def _logs_in(self, login: Login) -> bool:
        try:
            await self._log_in(login)
        except BusRejected as error:
            if error.reason_code in WRONG_PASSWORD:
                return False
            raise _failed("the broker doesn't let anybody in", error) from None
        except BusError as error:
            raise _failed("the broker can't be asked", error) from None
        return True

    async def _log_in(self, login: Login) -> None:
        await try_login(self.config.settings(login.username), login.password, client_id=self.config.client_id)


def _failed(what: str, error: BusError) -> RotatorError:
    """Return what a step raises for an error of the bus: whether it may pass is the error's class and code."""
    # A certificate that isn't the broker's is no outage; who rotates has to be told at once.
    distrusted = isinstance(error.__cause__, ssl.SSLCertVerificationError)
    busy = isinstance(error, BusRejected) and error.reason_code in MAY_PASS
    passes = busy or isinstance(error, BusLost) or (isinstance(error, BusUnreachable) and not distrusted)
    return (Retryable if passes else Refused)(f"{what}: {error}")


def _text(value: Sensitive) -> str:
    try:
        return value.reveal().decode()
    except UnicodeDecodeError:
        raise Refused("a password of the broker is UTF-8 text, and this value is not") from None


def _check_password(password: str) -> None:
    if "\0" in password:
        raise Refused("a password of the broker holds no NUL character")
    if not 0 < len(password.encode()) <= LONGEST:
        raise Refused(f"a password of the broker has 1 to {LONGEST} bytes")
