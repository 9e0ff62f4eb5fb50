"""The webhook rotator: against the receiver that docs/rotators.md shows, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from secretsd_bus import KeyRing, SigningKey, Topics, Verifier, canonical, verify_line
from secretsd_bus import Refused as Slug
from secretsd_bus.events import parse_time

from secretsd.crypto.sensitive import Sensitive
from secretsd.rotators import Misconfigured, Refused, Retryable, configure
from secretsd.rotators.conformance import Conformance, Harness, OtherEnd
from tests.support.recipe import recipe
from tests.support.silence import silence
from tests.support.tls import make_server_certificate
from tests.support.waiting import eventually, free_port

OLD = b"the old value of the service"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(kw_only=True)
class Documented(OtherEnd):
    """The receiver of the documentation, in a process of its own."""

    folder: Path
    silent_port: int

    async def accepts(self, value: Sensitive) -> bool:
        return (self.folder / "service.password").read_bytes() == value.reveal()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def unreachable(self) -> Mapping[str, object]:
        return {**self.members, "url": f"https://127.0.0.1:{free_port()}/router"}

    def refusing(self) -> Mapping[str, object]:
        return {**self.members, "url": f"{self.members['url']}-of-somebody-else"}

    def silent(self) -> Mapping[str, object]:
        return {**self.members, "url": f"https://127.0.0.1:{self.silent_port}/router", "timeout": "1s"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Documented]:
    folder = Path(tempfile.mkdtemp(prefix="hook-"))
    files = make_server_certificate(folder)
    shutil.copyfile(files["certfile"], folder / "cert.pem")
    shutil.copyfile(files["keyfile"], folder / "key.pem")
    key = SigningKey.generate()
    (folder / "keys.json").write_text(json.dumps({"keys": [key.public.to_jwk()]}))
    (folder / "receiver.py").write_text(recipe("receiver", "rotators.md"))
    port = free_port()
    url = f"https://127.0.0.1:{port}/router"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "receiver.py"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={"OWN_URL": url, "PORT": str(port)},
        )
    with silence() as silent_port:
        eventually(lambda: socket.create_connection(("127.0.0.1", port)).close() is None, "the receiver listens")
        yield Documented(
            members={"kind": "webhook", "url": url, "ca_file": str(files["cafile"])},
            old=Sensitive(OLD),
            signing_key=key,
            folder=folder,
            silent_port=silent_port,
        )
    process.kill()
    process.wait()
    shutil.rmtree(folder)


class TestTheDocumentedReceiver(Conformance):
    """Whatever the environment says of proxies."""

    @pytest.fixture
    def end(self, receiver: Documented, monkeypatch: pytest.MonkeyPatch) -> Documented:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{receiver.silent_port}")
        (receiver.folder / "service.password").write_bytes(OLD)
        receiver.old = Sensitive(OLD)
        return receiver


async def test_the_documented_receiver_takes_no_step_twice_and_none_of_a_stranger(receiver: Documented) -> None:
    """A recorded body is refused once a newer step was taken; so is one signed by another key."""
    (receiver.folder / "service.password").write_bytes(OLD)
    rotation = Harness(receiver)
    recorded: list[bytes] = []
    sign = rotation.order.sign

    def recording(kind: str, data: Mapping[str, Any]) -> bytes:
        recorded.append(sign(kind, data))
        return recorded[-1]

    object.__setattr__(rotation.order, "sign", recording)
    await rotation.set()
    await rotation.rollback()
    object.__setattr__(rotation.order, "sign", lambda *_: recorded[0])
    with pytest.raises(Refused, match="403"):
        await rotation.set()
    stranger = Harness(receiver)
    stranger._sealer.key = SigningKey.generate()
    with pytest.raises(Refused, match="403"):
        await stranger.set()
    assert await receiver.accepts(receiver.old)


# A receiver of the test's own, on a Unix socket


@asynccontextmanager
async def serving(folder: Path, handler: Handler) -> AsyncIterator[Harness]:
    """Serve `handler` on a socket in `folder` and give a rotation that posts to it."""
    application = web.Application()
    application.router.add_post("/", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    path = folder / "hook.sock"
    await web.UnixSite(runner, str(path)).start()
    try:
        yield Harness(Posted(members={"kind": "webhook", "url": f"unix://{path}"}, old=Sensitive(OLD)))
    finally:
        await runner.cleanup()


class Posted(OtherEnd):
    """What the suite would ask isn't asked here."""

    async def accepts(self, value: Sensitive) -> bool:
        raise NotImplementedError

    def log(self) -> str:
        raise NotImplementedError

    def unreachable(self) -> Mapping[str, object]:
        raise NotImplementedError

    def refusing(self) -> Mapping[str, object]:
        raise NotImplementedError

    def silent(self) -> Mapping[str, object]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, None) for status in (200, 201, 204)),
        *((status, Retryable) for status in (202, 408, 425, 429, 500, 502, 503, 504)),
        *((status, Refused) for status in (301, 302, 307, 308, 400, 401, 403, 404, 409, 410, 422, 501)),
    ],
)
async def test_the_status_is_the_outcome_and_a_redirect_leads_nowhere(
    tmp_path: Path, status: int, outcome: type[Exception] | None
) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with serving(tmp_path, answer) as rotation:
        if outcome is None:
            await rotation.set()
        else:
            with pytest.raises(outcome, match=str(status)):
                await rotation.set()
    assert asked == ["/"]


async def test_a_body_without_end_is_not_read_and_one_that_repeats_the_value_goes_nowhere(tmp_path: Path) -> None:
    """The status is all that is read, so neither memory nor a log can be filled from there."""

    async def endless(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        response = web.StreamResponse(status=409)
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            await response.write(body * 16)
            await asyncio.sleep(0)
        return response

    async with serving(tmp_path, endless) as rotation:
        with pytest.raises(Refused) as failed:
            await rotation.set()
    assert rotation.order.new.reveal().decode() not in str(failed.value)


async def test_an_answer_that_is_no_http_may_be_asked_again_and_is_not_quoted(tmp_path: Path) -> None:
    """Its words may be what we sent."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(65_536))
        writer.close()

    server = await asyncio.start_unix_server(echo, str(tmp_path / "hook.sock"))
    end = Posted(members={"kind": "webhook", "url": f"unix://{tmp_path}/hook.sock"}, old=Sensitive(OLD))
    with pytest.raises(Retryable, match="can be read") as failed:
        await Harness(end).set()
    assert "rotation" not in str(failed.value)
    server.close()


async def test_each_step_tells_what_the_documentation_says(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def hear(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer the-token"
        assert request.content_type == "application/cloudevents+json"
        heard.append(await request.json())
        return web.Response(status=204)

    topics = Topics("x")
    async with serving(tmp_path, hear) as plain:
        keys = KeyRing([plain.end.signing_key.public])
        plain.end.secrets = {"hook_token": Sensitive(b"the-token")}
        rotation = Harness(plain.end, {**plain.end.members, "bearer": "hook_token"})
        for step in (rotation.set, rotation.test, rotation.finish, rotation.rollback):
            await step()
    assert [event["data"]["step"] for event in heard] == ["set", "test", "finish", "rollback"]
    for event in heard:
        for read in (
            lambda raw: verify_line(raw, keys),
            lambda raw: Verifier(topics, keys).verify("x/secret/a/b", raw),
        ):
            with pytest.raises(Slug, match="not-canonical"):
                read(canonical.encode(event))  # it holds a value: as a line or a message it counts for nobody
        assert event["type"] == "jarvis.secretsd.rotation.step"
        assert set(event["data"]) == {"step", "token", "name", "version", "url", "encoding", "value"}
        assert event["data"]["token"] == rotation.order.token
        parse_time(event["time"])


async def test_a_socket_of_another_user_and_what_is_no_socket_are_refused(tmp_path: Path) -> None:
    """Nobody but root and the daemon's own user is handed a value, unless the policy names them."""

    async def never(_: web.Request) -> web.Response:
        raise AssertionError("it was asked")

    async with serving(tmp_path, never) as rotation:
        with pytest.raises(Refused, match="owner"):
            await Harness(rotation.end, {**rotation.end.members, "uid": 64_321}).set()
    plain = tmp_path / "file"
    plain.touch()
    with pytest.raises(Refused, match="no socket"):
        await Harness(rotation.end, {"kind": "webhook", "url": f"unix://{plain}"}).set()
    with pytest.raises(Retryable, match="reached"):
        await Harness(rotation.end, {"kind": "webhook", "url": f"unix://{tmp_path}/none"}).set()


async def test_a_certificate_of_another_authority_is_refused(receiver: Documented, tmp_path: Path) -> None:
    """Whatever else fits."""
    other = make_server_certificate(tmp_path)["cafile"]
    with pytest.raises(Refused, match="certificate"):
        await Harness(receiver, {**receiver.members, "ca_file": str(other)}).set()


async def test_a_pipe_in_the_place_of_a_tls_file_is_refused_and_not_waited_for(
    receiver: Documented, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.pem")
    with pytest.raises(Refused, match=r"can't use the TLS files .*pipe\.pem: not a regular file"):
        await Harness(receiver, {**receiver.members, "ca_file": str(tmp_path / "pipe.pem")}).set()


@pytest.mark.parametrize(
    "members",
    [
        {"url": "http://127.0.0.1:8080/hook"},
        {"url": "http://hooks.lan/"},
        {"url": "https://user:password@hooks.lan/"},
        {"url": "https:///nowhere"},
        {"url": "https://hooks.lan:99999/"},
        {"url": "https://hooks.lan/#part"},
        {"url": "unix://relative"},
        {"url": "unix:///run/x.sock", "ca_file": "/ca.pem"},
        {"url": "https://hooks.lan/", "uid": 5},
        {"url": "https://hooks.lan/", "cert_file": "/cert.pem"},
        {"url": "https://hooks.lan/", "bearer": "no name"},
        {},
    ],
)
def test_an_address_that_a_value_must_not_go_to_refuses_the_policy(members: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        configure({"kind": "webhook", **members})
