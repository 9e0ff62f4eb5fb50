"""A running service, its broker and its daemon: whoever rotates, the cache drops the old value at once."""

from __future__ import annotations

import os
import queue
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from secretsd_client import (
    AccessDenied,
    AsyncSecretsClient,
    AuthenticationFailed,
    Secret,
    SecretNotFound,
    SecretsClient,
    SecretsUnavailable,
    Settings,
    Times,
)

from tests.support.broker import Broker
from tests.support.daemon import COMMANDS, OPEN_POLICY, Daemon
from tests.support.http import Api
from tests.support.waiting import PATIENCE_SECS, eventually

Unique = Callable[..., str]
POLICY: dict[str, Any] = {
    **OPEN_POLICY,
    "clients": {**OPEN_POLICY["clients"], "service": {"allow": ["*"], "can": ["read"]}},
    "secrets": {
        "auto_*": {"type": "generic", "rotation": "auto", "rotation_period": "3s", "grace_period": "1s"},
        "brief_*": {"type": "generic", "grace_period": "2s"},
    },
}


@pytest.fixture(scope="module")
def daemon(broker: Broker, module_prefix: str) -> Iterator[Daemon]:
    with Daemon(bus=broker.url, prefix=module_prefix, policy=POLICY) as running:
        yield running.wait_bus()


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return daemon.api


@pytest.fixture
def settings(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a service of this daemon; nothing else of JARVIS_* is set."""
    for name in [name for name in os.environ if name.startswith("JARVIS_")]:
        monkeypatch.delenv(name)
    given = {
        "JARVIS_SECRETS_URL": f"http://127.0.0.1:{daemon.port}",
        "JARVIS_CLIENT_ID": "service",
        "JARVIS_SECRETS_PUBKEY": str(daemon.public_key_path),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


@pytest.fixture
def client(settings: dict[str, str]) -> Iterator[SecretsClient]:
    with SecretsClient.from_env() as running:
        yield running


class Changes:
    """A callback that keeps what it was given, and what a read gave at that moment."""

    def __init__(self, client: SecretsClient, name: str) -> None:
        self._client = client
        self._name = name
        self._told: queue.Queue[tuple[Secret, str]] = queue.Queue()
        client.on_change(name, self)

    def __call__(self, secret: Secret) -> None:
        self._told.put((secret, self._client.get_secret(self._name)))

    def next(self) -> tuple[Secret, str]:
        return self._told.get(timeout=PATIENCE_SECS)


def secretsctl(settings: dict[str, str], *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        **settings,
        "JARVIS_CLIENT_ID": "admin",
    }
    done = subprocess.run(
        [str(COMMANDS / "secretsctl"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sees_the_rotation(client: SecretsClient, api: Api, name: str, rotate: Callable[[], object]) -> Secret:
    """Have `name` rotated; assert that the callback comes after the new value is in the cache, and return it."""
    old = client.get_secret(name)
    assert old == api.value(name)
    changes = Changes(client, name)
    rotate()
    secret, read_in_callback = changes.next()
    assert secret.value != old
    assert read_in_callback == secret.value
    assert client.get_secret(name) != old
    assert api.value(name) != old
    return secret


def test_a_rotation_by_secretsctl_reaches_the_service(
    client: SecretsClient, api: Api, settings: dict[str, str], unique: Unique
) -> None:
    name = api.create(unique("x"))["name"]
    secret = sees_the_rotation(client, api, name, lambda: secretsctl(settings, "rotate", name))
    assert secret.value == api.value(name)


def test_a_rotation_by_http_reaches_the_service(client: SecretsClient, api: Api, unique: Unique) -> None:
    name = api.create(unique("x"))["name"]
    secret = sees_the_rotation(client, api, name, lambda: api.rotate(name))
    assert (secret.value, secret.kid, secret.version) == (api.value(name), api.secret(name)["kid"], 2)


def test_a_rotation_by_schedule_reaches_the_service(client: SecretsClient, api: Api, unique: Unique) -> None:
    name = api.create(unique("x", "auto_"))["name"]
    sees_the_rotation(client, api, name, lambda: None)
    api.delete(f"/secret/{name}").ok(204)


def test_an_update_and_a_restore_reach_the_service(client: SecretsClient, api: Api, unique: Unique) -> None:
    name = api.create(unique("x"), "one")["name"]
    client.get_secret(name)
    changes = Changes(client, name)
    api.update(name, "two")
    assert changes.next()[1] == "two"
    api.post(f"/secret/{name}/restore", {"version": 1}).ok()
    assert changes.next()[1] == "one"


def test_after_the_callbacks_nobody_is_served_the_old_value(
    client: SecretsClient, settings: dict[str, str], api: Api, unique: Unique
) -> None:
    name = api.create(unique("x"))["name"]
    with SecretsClient.from_env() as second:
        clients = [client, second]
        old = {each.get_secret(name) for each in clients}
        changes = [Changes(each, name) for each in clients]
        api.rotate(name)
        for change in changes:
            change.next()
        for _ in range(1000):
            assert not {each.get_secret(name) for each in clients} & old


def test_the_previous_version_is_readable_until_its_grace_ends_and_gone_after(
    client: SecretsClient, api: Api, unique: Unique
) -> None:
    name = api.create(unique("x", "brief_"))["name"]
    old = api.secret(name)
    sees_the_rotation(client, api, name, lambda: api.rotate(name))
    assert api.value(name, "?version=previous") == old["value"]
    assert api.value(name, f"?kid={old['kid']}") == old["value"]
    eventually(lambda: api.get(f"/secret/{name}?kid={old['kid']}").status == 404, "the grace ends")
    api.get(f"/secret/{name}?version=previous").refused(404, "version-not-found")


def test_a_rotation_reaches_the_cache_within_a_second(client: SecretsClient, api: Api, unique: Unique) -> None:
    name = api.create(unique("x"))["name"]
    client.get_secret(name)
    changes = Changes(client, name)
    api.rotate(name)  # the first one may wait for the subscription
    changes.next()
    started = time.monotonic()
    api.rotate(name)
    changes.next()
    assert time.monotonic() - started < 1.0  # spread_ms, the fetch, a busy machine


def test_a_read_after_the_rotation_is_acknowledged_soon_gives_the_new_value(
    client: SecretsClient, api: Api, unique: Unique
) -> None:
    name = api.create(unique("x"))["name"]
    seen = {client.get_secret(name)}
    for _ in range(5):
        api.rotate(name)
        eventually(lambda: client.get_secret(name) not in seen, "the old value is dropped", within=5)
        assert client.get_secret(name) == api.value(name)
        seen.add(client.get_secret(name))


def test_a_deleted_secret_is_not_served_from_the_cache(client: SecretsClient, api: Api, unique: Unique) -> None:
    name = api.create(unique("x"), "v")["name"]
    assert client.get_secret(name) == "v"
    api.delete(f"/secret/{name}").ok(204)

    def gone() -> bool:
        try:
            client.get_secret(name)
        except SecretNotFound:
            return True
        return False

    eventually(gone, "the deletion reaches the client", within=10)


def test_cached_reads_make_no_request(daemon: Daemon, client: SecretsClient, api: Api, unique: Unique) -> None:
    name = api.create(unique("x"), "v")["name"]
    client.get_secret(name)
    client.get_secret(name)

    def reads() -> int:
        return sum(
            line["data"].get("client") == "service" and line["data"].get("name") == name for line in daemon.lines()
        )

    before = reads()
    for _ in range(100):
        client.get_secret(name)
    assert reads() == before


def test_errors_say_what_is_wrong(
    client: SecretsClient, api: Api, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SecretNotFound):
        client.get_secret("nothing-of-this-name")
    monkeypatch.setenv("JARVIS_CLIENT_ID", "backend")
    with SecretsClient.from_env() as backend, pytest.raises(AccessDenied):
        backend.get_secret("nothing-of-this-name")
    monkeypatch.setenv("JARVIS_CLIENT_ID", "stranger")
    with SecretsClient.from_env() as stranger, pytest.raises(AuthenticationFailed):
        stranger.get_secret("nothing-of-this-name")


def test_a_secret_does_not_show_its_value_by_accident(client: SecretsClient, api: Api, unique: Unique) -> None:
    name = api.create(unique("x"), "do-not-print-me")["name"]
    secret = client.get(name)
    assert secret.value == "do-not-print-me"
    assert "do-not-print-me" not in f"{secret!r} {secret} {client!r}"


async def test_the_async_client_does_the_same(settings: dict[str, str], api: Api, unique: Unique) -> None:
    import asyncio

    name = (await asyncio.to_thread(api.create, unique("x")))["name"]
    async with AsyncSecretsClient.from_env() as client:
        old = await client.get_secret(name)
        told: asyncio.Queue[Secret] = asyncio.Queue()
        client.on_change(name, told.put_nowait)
        await asyncio.to_thread(api.rotate, name)
        async with asyncio.timeout(PATIENCE_SECS):
            secret = await told.get()
        assert secret.value != old
        assert await client.get_secret(name) == secret.value


def test_the_unix_socket_serves_a_service(
    daemon: Daemon, api: Api, settings: dict[str, str], unique: Unique, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = api.create(unique("x"), "v")["name"]
    monkeypatch.setenv("JARVIS_SECRETS_URL", f"unix://{daemon.socket_path}")
    with SecretsClient.from_env() as client:
        assert client.get_secret(name) == "v"
        changes = Changes(client, name)
        api.update(name, "w")
        assert changes.next()[1] == "w"


def test_cached_values_outlive_the_daemon_marked_stale(
    prefix: str,
    broker: Broker,
    new_daemon: Callable[..., Daemon],
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix, policy=POLICY).start().wait_bus()
    daemon.api.create("x", "v")
    monkeypatch.setenv("JARVIS_SECRETS_URL", f"http://127.0.0.1:{daemon.port}")
    monkeypatch.setenv("JARVIS_SECRETS_PUBKEY", str(daemon.public_key_path))
    impatient = replace(Settings.from_env(), times=Times(ttl_silent=1.0))
    with SecretsClient(impatient) as client:
        assert client.get("x").stale is False
        daemon.sigkill()
        eventually(lambda: client.get("x").stale, "the value is marked stale")
        assert client.get_secret("x") == "v"
        with pytest.raises(SecretsUnavailable):
            client.get_secret("never-fetched")
        daemon.start()
        daemon.api.update("x", "w")
        eventually(lambda: client.get_secret("x") == "w", "the client finds the daemon again")
