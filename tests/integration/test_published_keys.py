"""Tokens signed by a service, verified by PyJWT's PyJWKClient, while the signing key rotates by schedule."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import pytest
from secretsd_client import SecretsClient, Settings

from tests.support.broker import Broker
from tests.support.daemon import OPEN_POLICY, Daemon
from tests.support.waiting import PATIENCE_SECS, eventually

NAME = "jwt_signing_key"
AHEAD_SECS = 1.0
RULE: dict[str, Any] = {"rotation": "auto", "jwks": True, "rotation_period": "2s", "grace_period": "20s"}
AHEAD: dict[str, Any] = {**RULE, "publish_ahead": "1s"}


@contextmanager
def signing(broker: Broker, prefix: str, rule: dict[str, Any]) -> Iterator[tuple[Daemon, SecretsClient]]:
    """A daemon that rotates the key every two seconds, and the service that signs with it."""
    policy: dict[str, Any] = {**OPEN_POLICY, "secrets": {NAME: rule}}
    with Daemon(bus=broker.url, prefix=prefix, policy=policy) as daemon:
        daemon.wait_bus()
        daemon.api.create(NAME)
        settings = Settings(url=f"http://127.0.0.1:{daemon.port}", client_id="admin", pubkey=daemon.public_key_path)
        with SecretsClient(settings) as client:
            yield daemon, client


def upcoming_of(daemon: Daemon) -> Any:
    """The key that is published and not used yet, None for none."""
    (secret,) = daemon.api.get("/secrets").ok()["secrets"]
    return secret.get("upcoming")


class Traffic:
    """Signs with the key of the moment and verifies at once, as one service calls another."""

    def __init__(self, daemon: Daemon, client: SecretsClient, *, lifespan: float) -> None:
        self._client = client
        # All else as PyJWT has it: it forces a fetch for an unknown kid once in thirty seconds.
        self._verifier = jwt.PyJWKClient(f"http://127.0.0.1:{daemon.port}/.well-known/jwks.json", lifespan=lifespan)
        self._kept: dict[str, str] = {}
        self.verified = 0
        self.failures: list[str] = []

    @property
    def kids(self) -> list[str]:
        """The keys that were signed with, in order."""
        return [*self._kept]

    def run(self, *, keys: int) -> None:
        """Sign and verify, tokens of the key before too, until `keys` keys were in use."""
        deadline = time.monotonic() + keys * 10 + PATIENCE_SECS
        while len(self._kept) < keys:
            assert time.monotonic() < deadline, f"only {len(self._kept)} keys were used"
            secret = self._client.get(NAME)
            token = jwt.encode({"sub": "service"}, secret.value, algorithm="EdDSA", headers={"kid": secret.kid})
            self._kept.setdefault(secret.kid, token)
            for one in (token, self._kept[self.kids[max(0, len(self._kept) - 2)]]):
                self._verify(one)
            time.sleep(0.002)  # a call every few milliseconds

    def _verify(self, token: str) -> None:
        try:
            key = self._verifier.get_signing_key_from_jwt(token)
            assert jwt.decode(token, key.key, algorithms=["EdDSA"])["sub"] == "service"
            self.verified += 1
        except jwt.PyJWTError as error:
            self.failures.append(str(error))


def test_no_verification_fails_while_keys_are_published_ahead(broker: Broker, module_prefix: str) -> None:
    with signing(broker, f"{module_prefix}/ahead", AHEAD) as (daemon, client):
        traffic = Traffic(daemon, client, lifespan=0.9 * AHEAD_SECS)
        traffic.run(keys=2)
        assert traffic.failures == []
        assert traffic.verified > 100


@pytest.mark.slow
def test_without_it_a_verifier_that_caches_fails(broker: Broker, module_prefix: str) -> None:
    with signing(broker, f"{module_prefix}/late", RULE) as (daemon, client):
        traffic = Traffic(daemon, client, lifespan=300)  # as PyJWT has it
        traffic.run(keys=2)
        # The first call with the new key: the copy doesn't have it, and is too young for another fetch.
        assert any("Unable to find a signing key" in failure for failure in traffic.failures), traffic.failures


@pytest.mark.slow
def test_no_verification_fails_over_many_rotations_and_kills(broker: Broker, module_prefix: str) -> None:
    with signing(broker, f"{module_prefix}/many", AHEAD) as (daemon, client):
        traffic = Traffic(daemon, client, lifespan=0.9 * AHEAD_SECS)
        for _ in range(6):
            traffic.run(keys=len(traffic.kids) + 4)
            upcoming = eventually(lambda: upcoming_of(daemon), "a key is published")
            daemon.sigkill()
            daemon.start()
            daemon.wait_bus()
            published = daemon.api.get("/.well-known/jwks.json").ok()["keys"]
            assert upcoming["kid"] in {key["kid"] for key in published}
            traffic.run(keys=len(traffic.kids) + 1)
        assert traffic.failures == []
        assert len(traffic.kids) >= 30
