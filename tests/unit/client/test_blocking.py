"""The client without asyncio: its threads, its callbacks, forks and exits."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest
from aiohttp import web
from secretsd_client import Secret, SecretsClient, SecretsError, SecretsUnavailable, Times

from tests.unit.client.waiting import until

QUICK = Times(ttl_silent=0.05, ttl_without_bus=0.05)


async def test_a_cached_read_needs_neither_the_loop_nor_the_daemon(daemon):
    with SecretsClient(daemon.settings()) as client:
        assert await asyncio.to_thread(client.get_secret, "db") == "first"
        await daemon.stop()
        # On this test's thread, which also runs the daemon: a question would never be answered.
        assert client.get_secret("db") == "first"
        assert client.get("db").value == "first"
        assert client.stats()["fetches"] == 1


async def test_making_a_client_needs_no_daemon_and_starts_no_thread():
    before = threading.active_count()
    client = SecretsClient.from_env()
    assert threading.active_count() == before
    client.close()


async def test_errors_reach_the_caller(daemon):
    await daemon.stop()
    with SecretsClient(daemon.settings()) as client, pytest.raises(SecretsUnavailable):
        await asyncio.to_thread(client.get_secret, "db")


async def test_callbacks_run_on_one_thread_after_the_value_is_in_the_cache_and_may_read(daemon):
    threads: set[int] = set()
    read: list[str] = []

    def callback(secret: Secret) -> None:
        threads.add(threading.get_ident())
        read.append(client.get_secret("db"))
        client.get("other")

    daemon.put("other", "thing")
    with SecretsClient(daemon.settings(QUICK)) as client:
        await asyncio.to_thread(client.on_change, "db", callback)
        for value in ("second", "third"):
            daemon.put("db", value)
            await until(lambda value=value: value in read, f"the callback read {value}")
    assert read == ["second", "third"]
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def test_a_rotation_right_after_on_change_returned_calls_back(daemon):
    seen: list[str] = []
    with SecretsClient(daemon.settings(QUICK)) as client:
        cancel = await asyncio.to_thread(client.on_change, "db", lambda secret: seen.append(secret.value))
        daemon.put("db", "second")
        await until(lambda: seen == ["second"], "the callback was called")
        await asyncio.to_thread(cancel)
        daemon.put("db", "third")

        def reads_the_third() -> bool:
            return client.get_secret("db") == "third"

        while not await asyncio.to_thread(reads_the_third):
            pass
    assert seen == ["second"]


async def test_a_callback_may_close_the_client(daemon):
    closed = threading.Event()

    def callback(_: Secret) -> None:
        client.close()
        closed.set()

    client = SecretsClient(daemon.settings(QUICK))
    await asyncio.to_thread(client.on_change, "db", callback)
    daemon.put("db", "second")
    await until(closed.is_set, "the client was closed")
    with pytest.raises(SecretsError, match="closed"):
        client.get("db")


async def test_clearing_the_cache_asks_the_daemon_again(daemon):
    with SecretsClient(daemon.settings()) as client:
        await asyncio.to_thread(client.get, "db")
        daemon.put("db", "second")
        await asyncio.to_thread(client.clear_cache)
        assert await asyncio.to_thread(client.get_secret, "db") == "second"


def _run(code: str, daemon_url: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "JARVIS_SECRETS_URL": daemon_url,
        "JARVIS_CLIENT_ID": "tester",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_a_process_that_used_get_secret_ends_by_itself_at_once(daemon):
    code = "from secretsd_client import get_secret; print(get_secret('db'))"
    done = await asyncio.to_thread(_run, code, daemon.url)
    assert (done.stdout, done.stderr, done.returncode) == ("first\n", "", 0)


async def test_after_a_fork_the_child_reads_by_a_client_of_its_own_and_both_end(daemon):
    code = """
import os, sys
from secretsd_client import get_secret
get_secret('db')
pid = os.fork()
print('child' if pid == 0 else 'parent', get_secret('db'), get_secret('other'), flush=True)
if pid: sys.exit(os.waitpid(pid, 0)[1])
"""
    daemon.put("other", "thing")
    done = await asyncio.to_thread(_run, code, daemon.url)
    assert sorted(done.stdout.splitlines()) == ["child first thing", "parent first thing"]
    assert (done.stderr, done.returncode) == ("", 0)
    assert daemon.asked("/secret/db") == 2


async def test_a_forked_child_is_told_of_what_changed_since_its_parent_s_version_and_may_stop_that(daemon):
    code = """
import os, sys, threading
from secretsd_client import SecretsClient
client, told = SecretsClient.from_env(), threading.Event()
stop = client.on_change('db', lambda secret: (print('told', secret.value, flush=True), told.set()))
client.get('change-db')
pid = os.fork()
if pid == 0:
    client.get('db')
    print(told.wait(10), flush=True)
    stop()
    client.close()
    os._exit(0)
status = os.waitpid(pid, 0)[1]
stop()
sys.exit(status)
"""

    async def changes(_: web.Request) -> web.Response:
        daemon.put("db", "second")
        return web.json_response(
            {"name": "change-db", "value": "x", "kid": "k", "version": 1, "expires_at": "t", "encoding": "utf-8"}
        )

    daemon.answer_of["change-db"] = changes
    done = await asyncio.to_thread(_run, code, daemon.url)
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (["told second", "True"], "", 0)


async def test_a_watch_may_be_stopped_in_a_forked_child_that_has_read_nothing(daemon):
    code = """
import os, signal, sys
from secretsd_client import SecretsClient
client = SecretsClient.from_env()
stop = client.on_change('db', print)
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    stop()
    os._exit(0)
sys.exit(os.waitpid(pid, 0)[1])
"""
    done = await asyncio.to_thread(_run, code, daemon.url)
    assert (done.stderr, done.returncode) == ("", 0)


async def test_the_old_module_s_client_comes_from_the_environment_and_from_settings_too(daemon):
    code = """
import secrets_client, secretsd_client
for client in (secrets_client.SecretsClient.from_env(),
               secrets_client.SecretsClient(secretsd_client.Settings.from_env())):
    with client:
        print(client.client_id, client.get_secret('db'))
"""
    done = await asyncio.to_thread(_run, code, daemon.url)
    assert (done.stdout.splitlines(), done.stderr) == (["tester first"] * 2, "")


async def test_the_old_way_to_clear_the_cache_clears_that_of_all_the_old_module_s_clients(daemon):
    code = """
import secrets_client
clients = [secrets_client.SecretsClient(), secrets_client.SecretsClient()]
for _ in range(2):
    print(*(client.get_secret('db') for client in clients))
secrets_client.SecretsClient.get_secret.cache_clear()
clients[0].get_secret('db')
clients[0].get_secret.cache_clear()
print(*(client.get_secret('db') for client in clients))
"""
    done = await asyncio.to_thread(_run, code, daemon.url)
    assert (done.stdout.splitlines(), done.stderr) == (["first first"] * 3, "")
    assert daemon.asked("/secret/db") == 5


async def test_the_old_module_s_functions_are_there_and_name_the_client_as_they_did(daemon):
    code = """
import secrets_client
print(secrets_client.SecretsClient().client_id)
print(secrets_client.get_secret('postgres_password'), secrets_client.get_postgres_password())
print(secrets_client.get_brave_api_key(), secrets_client.get_tavily_api_key())
"""
    for name in ("postgres_password", "brave_api_key", "tavily_api_key"):
        daemon.put(name, f"value-of-{name}")
    done = await asyncio.to_thread(_run, code, daemon.url)
    assert done.stdout.split() == [
        "tester",
        *["value-of-postgres_password"] * 2,
        "value-of-brave_api_key",
        "value-of-tavily_api_key",
    ], done.stderr
    assert daemon.asked("/secret/postgres_password") == 1


def test_importing_the_old_module_asks_nobody_and_defaults_to_python_services():
    code = "import secrets_client; print(secrets_client._client.client_id, secrets_client._client.base_url)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"JARVIS_SECRETS_URL": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split() == ["python-services", "http://127.0.0.1:1"]


def test_the_client_never_pulls_in_the_daemon():
    code = "import sys, secretsd_client; sys.exit('secretsd' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], timeout=30, check=True)
