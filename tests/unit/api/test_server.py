from __future__ import annotations

import asyncio
import datetime as dt
import gc
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from secretsd.api import Server, bind, connections, start, tls
from secretsd.auth import Caller, Claims
from secretsd.errors import ListenError
from tests.unit.api.conftest import Connect, Launch
from tests.unit.api.support import DEADLINE, FakeService, Wire, configured, request


def certificate(folder: Path, name: str = "server") -> None:
    """Write `{name}.pem` and `{name}.key`: self-signed, its own authority, for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def trusting(folder: Path, name: str = "server") -> ssl.SSLContext:
    return ssl.create_default_context(cafile=folder / f"{name}.pem")


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


async def test_the_url_says_where_the_server_is(server: Server, port: int) -> None:
    assert server.url == f"http://127.0.0.1:{port}"
    assert port > 0


async def test_draining_finishes_running_requests_and_takes_no_new_ones(
    service: FakeService, launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "s.sock"
    server = await launch(f'allow_unix_socket = true\nunix_socket_path = "{path}"')
    port = port_of(server)
    service.hold = asyncio.Event()
    idle, busy = await connect(port), await connect(port)
    await busy.send(request("DELETE", "/secret/a"))
    async with asyncio.timeout(DEADLINE):
        await service.entered.wait()
        draining = asyncio.create_task(server.drain(DEADLINE))
        assert await idle.ended()
        with pytest.raises(ConnectionRefusedError):
            await connect(port)
        assert not path.exists()
        service.hold.set()
        reply = await busy.reply()
        await draining
    assert (reply.status, reply.headers["connection"]) == (204, "close")
    assert await busy.ended()


async def test_draining_gives_up_on_what_takes_too_long(
    service: FakeService, launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    server = await launch()
    service.hold = asyncio.Event()
    wire = await connect(port_of(server))
    await wire.send(request("GET", "/secret/a"))
    async with asyncio.timeout(DEADLINE):
        await service.entered.wait()
        await server.drain(0.05)
    assert await wire.ended()


async def test_tls_is_spoken_where_it_is_configured(
    service: FakeService, launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    certificate(tmp_path)
    server = await launch('tls_cert = "server.pem"\ntls_key = "server.key"')
    assert server.url.startswith("https://127.0.0.1:")
    wire = await connect(port_of(server), ssl=trusting(tmp_path), server_hostname="localhost")
    await wire.send(request("GET", "/secret/a"))
    assert (await wire.reply()).status == 200
    assert service.claims[0].peer_uid is not None


async def test_certificates_are_taken_anew_without_a_pause(
    service: FakeService, launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    certificate(tmp_path)
    server = await launch('tls_cert = "server.pem"\ntls_key = "server.key"')
    before = await connect(port_of(server), ssl=trusting(tmp_path), server_hostname="localhost")
    certificate(tmp_path)
    await server.reload_certificates()
    after = await connect(port_of(server), ssl=trusting(tmp_path), server_hostname="localhost")
    for wire in (before, after):
        await wire.send(request("GET", "/secret/a"))
        assert (await wire.reply()).status == 200
    (tmp_path / "server.pem").write_text("broken")
    with pytest.raises(ListenError, match="tls_cert"):
        await server.reload_certificates()
    await before.send(request("GET", "/secret/a"))
    assert (await before.reply()).status == 200


async def test_with_a_client_ca_only_its_clients_are_heard(
    service: FakeService, launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    certificate(tmp_path)
    certificate(tmp_path, "client")
    server = await launch('tls_cert = "server.pem"\ntls_key = "server.key"\ntls_client_ca = "client.pem"')
    context = trusting(tmp_path)
    stranger = await connect(port_of(server), ssl=context, server_hostname="localhost")
    # With TLS 1.3 the client's half of the handshake is done before the server's refusal comes.
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await stranger.reply()
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    known = await connect(port_of(server), ssl=context, server_hostname="localhost")
    await known.send(request("GET", "/healthz"))
    assert (await known.reply()).status == 200


@pytest.mark.parametrize("missing", ["server.pem", "server.key", "ca.pem"])
async def test_tls_files_that_cannot_be_used_are_a_refusal(
    service: FakeService, launch: Launch, connect: Connect, tmp_path: Path, missing: str
) -> None:
    certificate(tmp_path)
    (tmp_path / "ca.pem").write_bytes((tmp_path / "server.pem").read_bytes())
    (tmp_path / missing).unlink()
    with pytest.raises(ListenError, match=r"server\.tls_"):
        await launch('tls_cert = "server.pem"\ntls_key = "server.key"\ntls_client_ca = "ca.pem"')


async def test_where_connections_run_out_an_idle_one_makes_room(
    service: FakeService, launch: Launch, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secretsd.api.server.most_connections", lambda: 2)
    server = await launch()
    service.hold = asyncio.Event()
    busy = await connect(port_of(server))
    await busy.send(request("GET", "/secret/a"))
    async with asyncio.timeout(DEADLINE):
        await service.entered.wait()
    idle = await connect(port_of(server))
    await idle.send(request("GET", "/healthz"))
    assert (await idle.reply()).status == 200
    late = await connect(port_of(server))
    await late.send(request("DELETE", "/secret/b"))
    assert await idle.ended()
    async with asyncio.timeout(DEADLINE):
        while len(service.calls) < 2:
            service.entered.clear()
            await service.entered.wait()
    too_late = await connect(port_of(server))
    assert await too_late.ended()
    service.hold.set()
    assert (await busy.reply()).status == 200
    assert (await late.reply()).status == 204


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_connections_too_many_are_refused_counted_and_told_of_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, run: Callable[..., None]
) -> None:
    monkeypatch.setattr("secretsd.api.server.most_connections", lambda: 1)
    monkeypatch.setattr("secretsd.api.server.SWEEP_SECONDS", 0.02)
    service, config = FakeService(), configured(tmp_path)

    async def main() -> None:
        told, all_told = [0], asyncio.Event()

        def tell(_said: str, refused: int, *_rest: object) -> None:
            told.append(refused)
            if sum(told) == 5:
                all_told.set()

        monkeypatch.setattr("secretsd.api.server.log.warning", tell)
        server = await start(service, config, sockets=bind(config))
        service.hold = asyncio.Event()
        busy = await Wire.to(port_of(server))
        await busy.send(request("GET", "/secret/a"))
        async with asyncio.timeout(DEADLINE):
            await service.entered.wait()
        for _ in range(5):
            one = await Wire.to(port_of(server))
            assert await one.ended()
            await one.close()
        service.hold.set()
        assert (await busy.reply()).status == 200
        async with asyncio.timeout(DEADLINE):
            await all_told.wait()
        await busy.close()
        await server.drain(1.0)
        gc.collect()  # a task that failed says so when it goes

    run(main())
    assert service.metrics.refused == 5
    assert caplog.records == []


async def test_a_stranger_that_holds_back_the_rest_of_a_refused_body_makes_room(
    service: FakeService, launch: Launch, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secretsd.api.server.most_connections", lambda: 2)
    monkeypatch.setattr(connections, "LINGERING_SECONDS", DEADLINE)
    server = await launch()
    strangers = [await connect(port_of(server)) for _ in range(2)]
    for stranger in strangers:
        await stranger.send(
            b"POST /secret HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        assert (await stranger.reply()).status == 401
    client = await connect(port_of(server))
    await client.send(request("GET", "/secret/a"))
    assert (await client.reply()).status == 200
    assert await strangers[0].ended()


async def test_of_idle_connections_a_strangers_makes_room_before_a_clients(
    launch: Launch, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secretsd.api.server.most_connections", lambda: 3)
    server = await launch()
    client = await connect(port_of(server))
    await client.send(request("GET", "/secret/a"))
    assert (await client.reply()).status == 200
    strangers = [await connect(port_of(server)) for _ in range(2)]
    for stranger in strangers:
        await stranger.send(request("GET", "/healthz"))
        assert (await stranger.reply()).status == 200
    late = await connect(port_of(server))
    await late.send(request("GET", "/healthz"))
    assert await strangers[0].ended()
    await client.send(request("GET", "/secret/a"))
    assert (await client.reply()).status == 200


async def test_where_none_is_idle_a_stranger_makes_room_for_a_client(
    service: FakeService, launch: Launch, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secretsd.api.server.most_connections", lambda: 2)
    server = await launch()
    service.hold = asyncio.Event()
    busy = await connect(port_of(server))
    await busy.send(request("GET", "/secret/a"))
    async with asyncio.timeout(DEADLINE):
        await service.entered.wait()
    identify, slowed = service.identify, asyncio.Event()

    async def slow(claims: Claims, *rest: Any) -> Caller:
        if claims.client == "ghost":
            slowed.set()
            await asyncio.Event().wait()
        return await identify(claims, *rest)

    monkeypatch.setattr(service, "identify", slow)
    stranger = await connect(port_of(server))
    await stranger.send(request("GET", "/secret/a", client="ghost"))
    async with asyncio.timeout(DEADLINE):
        await slowed.wait()
    client = await connect(port_of(server))
    await client.send(request("GET", "/secret/a"))
    assert await stranger.ended()
    service.hold.set()
    assert (await client.reply()).status == 200
    assert (await busy.reply()).status == 200


async def test_a_peer_that_does_not_take_its_answer_is_dropped(
    service: FakeService, launch: Launch, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secretsd.api.server.SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.05)
    dropped = asyncio.Event()
    monkeypatch.setattr("secretsd.api.server.log.warning", lambda *_said: dropped.set())
    service.value = "v" * 1024 * 1024  # thirty of them are more than the sockets hold
    server = await launch()
    slow = await connect(port_of(server), limit=1024)
    slow.writer.transport.pause_reading()
    await slow.send(request("GET", "/secret/a") * 30)
    other = await connect(port_of(server))
    await other.send(request("GET", "/healthz"))
    assert (await other.reply()).status == 200
    async with asyncio.timeout(DEADLINE):
        await dropped.wait()


async def test_a_request_that_never_ends_its_head_is_dropped(
    service: FakeService, launch: Launch, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEEPALIVE_SECONDS", 0.2)
    server = await launch()
    wire = await connect(port_of(server))
    await wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    assert await wire.ended()


def test_it_serves_on_uvloop_as_well(tmp_path: Path) -> None:
    certificate(tmp_path)
    path = tmp_path / "s.sock"
    config = configured(
        tmp_path,
        f'allow_unix_socket = true\nunix_socket_path = "{path}"\ntls_cert = "server.pem"\ntls_key = "server.key"',
    )
    service = FakeService()

    async def main() -> None:
        server = await start(service, config, sockets=bind(config))
        await server.reload_certificates()
        tcp = await Wire.to(port_of(server), ssl=trusting(tmp_path), server_hostname="localhost")
        unix = await Wire.to_unix(path)
        for wire in (tcp, unix):
            await wire.send(request("GET", "/secret/a"))
            assert (await wire.reply()).status == 200
            await wire.close()
        await server.drain(1.0)
        assert not path.exists()

    uvloop.run(main())
    assert [claims.peer for claims in service.claims] == ["127.0.0.1", "unix"]
    assert all(claims.peer_uid is not None for claims in service.claims)


def test_connections_are_limited_by_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((1024, 896), (10**6, connections.MOST_CONNECTIONS), (50, 32), (-1, 16_384)):
        monkeypatch.setattr("resource.getrlimit", lambda _what, soft=soft: (soft, soft))
        assert connections.most_connections() == most


def test_tls_is_1_2_at_least(tmp_path: Path) -> None:
    certificate(tmp_path)
    config = configured(tmp_path, 'tls_cert = "server.pem"\ntls_key = "server.key"')
    context, _ = tls.context(config.server)
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
