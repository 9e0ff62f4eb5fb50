"""What the tests of the client's rules look at: a running service, what it was told, what its client counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from secretsd_client import Secret, SecretsClient, SecretsError, Settings, Times

from tests.support.daemon import OPEN_POLICY, Daemon
from tests.support.waiting import eventually

CLIENT = "service"
POLICY: dict[str, Any] = {
    **OPEN_POLICY,
    "clients": {**OPEN_POLICY["clients"], CLIENT: {"allow": ["*"], "can": ["read"]}},
    "secrets": {
        "brief_*": {"type": "generic", "grace_period": "1s"},
        "short_*": {"type": "generic", "grace_period": "6s"},
        "long_*": {"type": "generic", "grace_period": "1h"},
        "none_*": {"type": "generic", "grace_period": "0s"},
    },
}
INTERVAL_SECS = 1.0
"""The daemon's checkpoint_secs in these tests; a checkpoint vouches for three of them."""
QUICK = Times(ttl_silent=1.0)
"""The contract's 30 s, so short that a test can wait for it."""
BOUND_SECS = 15.0
"""Generous: three intervals and a time to live take 4 s on an idle machine."""
HEARD_ONLY = Times(ttl_silent=600.0)
"""A time to live that no test lives to see: only what comes on the bus can make the client ask."""


class Told:
    """A callback that keeps what it was told, with what a read gave at that moment."""

    def __init__(self, client: SecretsClient, name: str) -> None:
        self.secrets: list[Secret] = []
        self.read: list[Secret] = []
        self._client = client
        self.name = name
        client.on_change(name, self)

    def __call__(self, secret: Secret) -> None:
        self.read.append(self._client.get(self.name))
        self.secrets.append(secret)

    @property
    def versions(self) -> list[int]:
        """The versions it was told of, in order."""
        return [secret.version for secret in self.secrets]

    def wait(self, version: int, *, within: float = BOUND_SECS) -> None:
        """Wait to be told of `version`; assert that no version came twice or out of order on the way."""
        eventually(lambda: version in self.versions, f"{self.name} version {version} is told", within=within)
        assert self.versions == sorted(set(self.versions)), self.versions
        # It may be ahead of it: the next version is fetched while this one is told.
        told_and_read = [(told.version, read.version) for told, read in zip(self.secrets, self.read, strict=False)]
        assert all(read >= told for told, read in told_and_read), f"the cache is behind the callback: {told_and_read}"


class Service:
    """A service with its client, connected and, unless told otherwise, vouched for by the bus."""

    def __init__(self, daemon: Daemon, settings: Settings) -> None:
        self._daemon = daemon
        self.client = SecretsClient(settings)

    def follow(self, *names: str) -> list[Told]:
        """Read and watch these secrets; return what their callbacks are told."""
        told = [Told(self.client, name) for name in names]
        for name in names:
            self.client.get_secret(name)
        return told

    def settle(self) -> None:
        """Wait until the bus is listened to and vouches, the names' topics included."""
        assert self.client.wait_ready(BOUND_SECS)
        eventually(self.vouched, "the bus vouches", within=BOUND_SECS)

    def rest(self) -> None:
        """Wait until the client has followed the daemon to its last change, and has nothing left to ask."""

        def resting() -> bool:
            runtime = self.client._runtime
            assert runtime is not None
            state, fetches = runtime.client.state, runtime.client._fetches
            asking = state.history.asking or state.history.ask_at is not None
            at_last = state.history.applied == self._daemon.api.changes()["generation"]
            return at_last and not asking and not state._refetch and not fetches

        eventually(resting, "the client has caught up", within=BOUND_SECS)

    def vouched(self) -> bool:
        """Whether a fresh checkpoint says that what is cached is current."""
        return self.client._history.vouched_until > time.monotonic()

    def stat(self, name: str) -> int:
        """Return one of the client's counters."""
        return self.client.stats().get(name, 0)

    def counts(self, name: str, at_least: int) -> None:
        """Wait until a counter has come so far."""
        eventually(lambda: self.stat(name) >= at_least, f"{name} reaches {at_least}; {self.client.stats()}")

    def serves(self, name: str, value: str, *, within: float = BOUND_SECS) -> None:
        """Wait until a read gives `value`, and assert that it goes on to."""
        eventually(lambda: self.client.get_secret(name) == value, f"{name} is served anew", within=within)
        assert all(self.client.get_secret(name) == value for _ in range(100))

    def refuses(self, name: str, error: type[SecretsError], *, within: float = BOUND_SECS) -> None:
        """Wait until a read raises `error`."""

        def raises() -> bool:
            try:
                self.client.get_secret(name)
            except error:
                return True
            return False

        eventually(raises, f"{name} raises {error.__name__}", within=within)


def settings_for(daemon: Daemon, mqtt_url: str | None, **changes: Any) -> Settings:
    """Return how a service of this daemon is set up, with the daemon's key pinned."""
    given: dict[str, Any] = {
        "url": f"http://127.0.0.1:{daemon.port}",
        "client_id": CLIENT,
        "pubkey": daemon.public_key_path,
        "mqtt_url": mqtt_url,
        "times": QUICK,
    }
    return Settings(**{**given, **changes})


def metric(daemon: Daemon, series: str) -> float:
    """Return what the daemon says to Prometheus for the series that start like this, summed up."""
    lines = daemon.api.get("/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


NewService = Callable[..., Service]
