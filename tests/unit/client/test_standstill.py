"""The client without asyncio never stands still, wherever somebody else's code reads or closes it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from secretsd_client import SecretsClient, SecretsError, Times

from tests.unit.client.waiting import until

NOBODY = "mqtt://127.0.0.1:1"
QUICK = Times(ttl_silent=0.05, ttl_without_bus=0.05)


def _begin(function: Callable[..., Any], *args: Any) -> list[Any]:
    """Call it on a thread that holds nothing up; what it returns or raises comes into the list."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(function(*args))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    threading.Thread(target=call, daemon=True).start()
    return outcome


async def _outcome(function: Callable[..., Any], *args: Any) -> Any:
    """Call it on a thread that holds nothing up; return what it returns or raises, or fail."""
    outcome = _begin(function, *args)
    await until(lambda: outcome, f"{function} has come back", within=40)
    return outcome[0]


def _on_the_loop(client: SecretsClient, function: Callable[..., Any], *args: Any) -> None:
    """Have it called on the loop's own thread, as a destructor may be; don't wait."""
    runtime = client._runtime
    assert runtime is not None
    runtime.soon(function, *args)


def _says_closed(outcome: Any) -> bool:
    return isinstance(outcome, SecretsError) and str(outcome) == "the client is closed"


async def test_all_who_wait_while_another_thread_closes_the_client_are_told_so(daemon):
    asked, daemon.broker_url = daemon.never_answers("slow"), NOBODY
    client = SecretsClient(daemon.settings(timeout_secs=3600.0))
    ready = _begin(client.wait_ready, 3600.0)
    read = _begin(client.get, "slow")
    watch = _begin(client.on_change, "slow", print)
    await until(lambda: client._runtime and len(client._runtime._waiting) == 3, "all three wait")
    await asked.wait()
    assert await _outcome(client.close) is None
    await until(lambda: ready and read and watch, "all three are told")
    assert [_says_closed(told) for told in (*ready, *read, *watch)] == [True] * 3


async def test_a_log_handler_may_read_a_secret_and_close_the_client(daemon):
    read: list[Any] = []

    class Alarm(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            read.append(client.get_secret("db"))
            client.close()

    alarm, log = Alarm(), logging.getLogger("secretsd_client")
    log.addHandler(alarm)
    daemon.broker_url = NOBODY
    try:
        client = SecretsClient(daemon.settings())
        _begin(client.wait_ready, 3600.0)
        await until(lambda: read, "that the broker is away was logged")
        await until(lambda: _closed(client), "the handler has closed the client")
    finally:
        log.removeHandler(alarm)
    assert read == ["first"]


def _closed(client: SecretsClient) -> bool:
    try:
        client.stats()
    except SecretsError:
        return True
    return False


async def test_a_log_handler_that_another_thread_is_in_does_not_hold_up_that_thread_s_read(daemon):
    class Silent(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None: ...

    handler, log = Silent(), logging.getLogger("secretsd_client")
    entered, logged = threading.Event(), threading.Event()

    def reads_in_the_handler() -> str:
        handler.acquire()  # as around `emit`
        try:
            entered.set()
            logged.wait(40)
            return client.get_secret("db")
        finally:
            handler.release()

    def logs() -> None:
        log.warning("something")
        logged.set()

    with SecretsClient(daemon.settings()) as client:
        await asyncio.to_thread(client.wait_ready)
        log.addHandler(handler)
        try:
            read = _begin(reads_in_the_handler)
            await until(entered.is_set, "a thread is in the handler")
            _on_the_loop(client, logs)
            await until(lambda: read, "it has read", within=40)
        finally:
            log.removeHandler(handler)
    assert read == ["first"]


async def test_on_the_client_s_own_thread_what_is_cached_is_served_and_the_rest_refused_at_once(daemon):
    daemon.put("other", "thing")
    outcomes: list[Any] = []

    def reads() -> None:
        for name in ("db", "other"):
            try:
                outcomes.append(client.get_secret(name))
            except SecretsError as error:
                outcomes.append(str(error))

    with SecretsClient(daemon.settings()) as client:
        await asyncio.to_thread(client.get, "db")
        _on_the_loop(client, reads)
        assert await _outcome(client.get_secret, "other") == "thing"
    assert outcomes[0] == "first"
    assert "can't wait for itself" in outcomes[1]


async def test_on_the_client_s_own_thread_the_cache_is_cleared_and_a_watch_stopped_all_the_same(daemon):
    told: list[int] = []
    tidied = threading.Event()

    def tidies() -> None:
        stop()
        client.clear_cache()
        _on_the_loop(client, tidied.set)

    with SecretsClient(daemon.settings(QUICK)) as client:
        stop = await asyncio.to_thread(client.on_change, "db", lambda secret: told.append(secret.version))
        _on_the_loop(client, tidies)
        await until(tidied.is_set, "both have been done")
        daemon.put("db", "second")
        assert await _outcome(client.get_secret, "db") == "second"
    assert told == []


async def test_a_destructor_that_runs_on_the_client_s_own_thread_may_close_it(daemon):
    class Service:
        def __init__(self, client: SecretsClient) -> None:
            self.client = client
            self.itself = self

        def __del__(self) -> None:
            self.client.close()
            closed.append(threading.current_thread())

    closed: list[threading.Thread] = []
    client = SecretsClient(daemon.settings())
    await asyncio.to_thread(client.get, "db")
    gc.disable()
    try:
        Service(client)
        _on_the_loop(client, gc.collect)
        await until(lambda: closed, "the destructor has closed the client")
    finally:
        gc.enable()
    assert closed[0].name == "secretsd-client"
    await until(lambda: not closed[0].is_alive(), "the thread has ended")
    assert _says_closed(await _outcome(client.get, "db"))


_SIGNALS = """
import os, signal, sys, threading
from secretsd_client import SecretsClient

client = SecretsClient.from_env()
begin = threading.Thread.start

def handler(*_):
    {handler}

def interrupted(thread):
    threading.Thread.start = begin
    if {before}: signal.raise_signal(signal.SIGTERM)
    begin(thread)
    if not {before}: signal.raise_signal(signal.SIGTERM)

signal.signal(signal.SIGTERM, handler)
"""


async def _run(code: str, daemon_url: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "JARVIS_SECRETS_URL": daemon_url, "JARVIS_CLIENT_ID": "tester"}
    command = [sys.executable, "-W", "error", "-c", code]
    return await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=40, check=False
    )


@pytest.mark.parametrize("before", [True, False])
async def test_a_signal_handler_may_close_the_client_while_the_first_read_begins(daemon, before):
    code = _SIGNALS.format(handler="client.close(); sys.exit(7)", before=before)
    done = await _run(code + "threading.Thread.start = interrupted\nclient.get('db')", daemon.url)
    assert (done.stderr, done.returncode) == ("", 7)


@pytest.mark.parametrize("before", [True, False])
async def test_a_first_read_whose_client_a_signal_handler_has_closed_says_so(daemon, before):
    code = (
        _SIGNALS.format(handler="client.close()", before=before)
        + """
threading.Thread.start = interrupted
try:
    client.get('db')
except Exception as error:
    print(error)
print(threading.active_count())
"""
    )
    done = await _run(code, daemon.url)
    assert (done.stdout, done.stderr, done.returncode) == ("the client is closed\n1\n", "", 0)


@pytest.mark.parametrize("before", [True, False])
async def test_a_signal_handler_may_read_while_the_first_read_begins(daemon, before):
    code = (
        _SIGNALS.format(handler="print(client.get_secret('db'))", before=before)
        + """
threading.Thread.start = interrupted
print(client.get_secret('db'))
"""
    )
    done = await _run(code, daemon.url)
    assert (done.stdout, done.stderr, done.returncode) == ("first\nfirst\n", "", 0)
    assert daemon.asked("/secret/db") == 1


async def test_a_signal_handler_may_read_while_the_process_s_own_client_is_made(daemon):
    code = """
import signal
from secretsd_client import SecretsClient, get_secret

make = SecretsClient.from_env

def interrupted():
    SecretsClient.from_env = make
    signal.raise_signal(signal.SIGTERM)
    return make()

signal.signal(signal.SIGTERM, lambda *_: print(get_secret('db')))
SecretsClient.from_env = interrupted
print(get_secret('db'))
"""
    done = await _run(code, daemon.url)
    assert (done.stdout, done.stderr, done.returncode) == ("first\nfirst\n", "", 0)
    assert daemon.asked("/secret/db") == 1


async def test_a_signal_handler_may_close_the_client_while_a_read_waits(daemon):
    async def never_answers(request: web.Request) -> web.Response:
        os.kill(int(request.match_info["name"].removeprefix("read-by-")), 15)
        await asyncio.sleep(3600)
        raise AssertionError

    class EveryName(dict[str, Any]):
        def get(self, _: str, default: Any = None) -> Any:
            return never_answers

    daemon.answer_of = EveryName()
    code = _SIGNALS.format(handler="client.close(); sys.exit(7)", before=True)
    done = await _run(code + "client.get(f'read-by-{os.getpid()}')", daemon.url)
    assert (done.stderr, done.returncode) == ("", 7)
