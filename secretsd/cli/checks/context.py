"""What the checks look at, each thing once. What can't be had raises Skip with the reason, each time it is used."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import click
from prometheus_client.parser import text_string_to_metric_families
from secretsd_bus import BusError, BusSettings, KeyRing, Message

from secretsd import config as configuration
from secretsd import policy as policies
from secretsd.audit.eventkeys import keys_in
from secretsd.cli.checks.finding import Skip
from secretsd.cli.checks.listening import can_connect, retained
from secretsd.cli.checks.once import Once
from secretsd.cli.errors import Failed
from secretsd.cli.options import Settings
from secretsd.cli.session import Session, decoded
from secretsd.clock import SystemClock
from secretsd.config import Config
from secretsd.daemon.firststart import StateFiles
from secretsd.errors import StartupError
from secretsd.model import Health, Metadata, Schedule
from secretsd.policy import Policy

ANSWER_SECS: Final = 5.0
ANY_HOST: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 — compared with, not listened on


@dataclass(frozen=True, slots=True)
class Foreign:
    """A user of the broker who has no rights under the prefix."""

    name: str
    password_file: Path


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a client may read of the vault, and how much there is."""

    seen: Sequence[Metadata]
    total: int

    @property
    def complete(self) -> bool:
        """Whether the client may read all."""
        return len(self.seen) >= self.total


class Context:
    """The installation under examination. A context manager, which ends the connection to the daemon."""

    def __init__(
        self,
        config_path: Path,
        settings: Settings,
        *,
        foreign: Foreign | None = None,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self.config_path = config_path
        self.settings = settings
        self.foreign = foreign
        self.proc = proc
        self.sys = sys
        self.now_ms = now_ms or SystemClock().now_ms
        self._session: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            self._session.__exit__(kind, error, trace)

    # Files

    @Once
    def config(self) -> Config:
        """Return the configuration."""
        try:
            return configuration.load(self.config_path)
        except StartupError:
            raise Skip("the configuration doesn't load") from None

    @Once
    def policy(self) -> Policy:
        """Return the policy in its file, whatever a running daemon holds."""
        try:
            return policies.load(self.config.security.rbac_policy_path, self.config)
        except StartupError:
            raise Skip("the policy doesn't load") from None

    @Once
    def state(self) -> StateFiles:
        """Return where the state lies."""
        return StateFiles(self.config)

    @Once
    def created(self) -> StateFiles:
        """Return where the state lies, which exists."""
        if not any(self.state.present().values()):
            raise Skip("there is no vault yet")
        return self.state

    @Once
    def keyring(self) -> KeyRing:
        """Return the event-signing key, from its file."""
        try:
            return KeyRing(keys_in(self.state.sign_pub.read_bytes()))
        except (OSError, ValueError):
            raise Skip(f"the key {self.state.sign_pub} can't be read") from None

    @Once
    def holder(self) -> int | None:
        """Return the process that holds the vault's lock; None when none does, as far as this user can see."""
        try:
            status = self.state.lock.stat()
            locks = (self.proc / "locks").read_text()
        except OSError:
            return None
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for fields in map(str.split, locks.splitlines()):
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == place:
                return int(fields[4])
        return None

    # The daemon

    @property
    def url(self) -> str:
        """Where the daemon is asked: what the options or the environment say, else what the configuration does."""
        return self.session.url

    @property
    def session(self) -> Session:
        """The calls to the daemon. Raises UsageError for options that make no sense."""
        if self._session is None:
            settings = self.settings
            if settings.url is None:
                with contextlib.suppress(Skip):
                    settings = replace(settings, url=_served_at(self.config, over_tls=settings.cert_file is not None))
            self._session = Session.open(settings, timeout_secs=ANSWER_SECS)
        return self._session

    @Once
    def health_or_trouble(self) -> Health | str:
        """Return what the daemon says of itself, or why it can't be asked."""
        try:
            return decoded(self.session.health(), Health)
        except Failed as failed:
            return failed.message

    @Once
    def health(self) -> Health:
        """Return what the daemon says of itself."""
        health = self.health_or_trouble
        if isinstance(health, str):
            raise Skip("the daemon can't be reached")
        return health

    @Once
    def metrics(self) -> dict[str, float]:
        """Return what the daemon tells Prometheus: values by name, with the one label's value behind a colon."""
        _ = self.health
        try:
            text = self.session.get("/metrics").body.decode()
            return {
                ":".join([sample.name, *sample.labels.values()]): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        except (Failed, ValueError) as error:
            raise Skip(f"the daemon's metrics can't be read: {error}") from None

    @Once
    def secrets(self) -> Secrets:
        """Return the secrets that the client may list. The audit log tells of the listing."""
        total = self.health.secrets_count
        if not self._names_somebody():
            raise Skip("no client is named: give --client, and its --token-file, of one who may read all secrets")
        try:
            return Secrets(self.session.secrets(), total)
        except Failed as failed:
            raise Skip(f"the secrets can't be listed: {failed.message}") from None

    @Once
    def held(self) -> frozenset[str]:
        """Return the secrets whose rotation is due and waits, for its window or a distance to others."""
        try:
            plan = decoded(self.session.get("/schedule?days=31"), Schedule)
        except Failed:
            return frozenset()
        return frozenset(
            one.name for one in plan.occurrences if one.what == "rotate" and one.due_at <= plan.now < one.at
        )

    def _names_somebody(self) -> bool:
        """Tell whether the daemon could know who asks; an anonymous call would only be one more refusal in its log."""
        settings = self.settings
        if settings.client or settings.token_file or settings.cert_file or os.environ.get("JARVIS_CLIENT_TOKEN"):
            return True
        try:
            return not self.config.security.require_client_id_header
        except Skip:
            return False

    # The broker

    @Once
    def bus(self) -> BusSettings:
        """Return the broker, with the daemon's credentials, whether or not they work."""
        if not self.config.bus.enabled:
            raise Skip("bus.enabled is false")
        return self.config.bus.settings()

    @Once
    def anonymous(self) -> BusSettings:
        """Return the broker for whoever has no credentials."""
        return replace(self.bus, username=None, password_file=None, cert_file=None, key_file=None)

    @Once
    def login(self) -> BusError | None:
        """Return why the broker doesn't take the daemon's credentials; None when it does."""
        if self.config.bus.password_secret is not None:
            raise Skip(f"the password is the secret {self.config.bus.password_secret}, which only the daemon uses")
        for path in (self.bus.password_file, self.bus.key_file):
            if path is not None and path.exists() and not os.access(path, os.R_OK):
                raise Skip(f"this user may not read {path}: run it as root or as the daemon's user")
        return asyncio.run(can_connect(self.bus))

    @Once
    def anonymous_login(self) -> BusError | None:
        """Return why the broker lets nobody in without credentials; None when it does."""
        return asyncio.run(can_connect(self.anonymous))

    @Once
    def broker(self) -> BusSettings:
        """Return the broker, with credentials that work."""
        if self.login is not None:
            raise Skip("the broker can't be reached with the daemon's credentials")
        return self.bus

    @Once
    def announced(self) -> Sequence[Message] | None:
        """Return what the broker holds of checkpoints and statuses; None when we may not read what we write there."""
        return asyncio.run(retained(self.broker))


def _served_at(config: Config, *, over_tls: bool) -> str:
    """Return where the daemon is asked; `over_tls`: by somebody who has a certificate to show, if it takes any."""
    server = config.server
    socket = None if (over_tls and server.tls) or not server.allow_unix_socket else server.unix_socket_path
    if socket is not None and os.access(socket, os.R_OK | os.W_OK):
        return f"unix://{socket}"
    address = server.bind_addr
    host = ANY_HOST.get(address.host) or (f"[{address.host}]" if ":" in address.host else address.host)
    return f"{'https' if server.tls else 'http'}://{host}:{address.port}"


def usage_checked(context: Context) -> None:
    """Raise UsageError now rather than in the middle of the checks."""
    try:
        _ = context.session
    except Failed as failed:
        raise click.UsageError(failed.message) from None
