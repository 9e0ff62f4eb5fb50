"""Whose certificate gets through a handshake, what is made of it, and what taking them anew changes."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from secretsd.api import Server, bind, start
from secretsd.auth import ClientCertificate
from secretsd.errors import ListenError
from tests.support.certificates import Certified, certified
from tests.support.tls import make_server_certificate
from tests.unit.api.conftest import Connect, Launch
from tests.unit.api.support import DEADLINE, FakeService, Wire, configured, request

Reach = Callable[[Certified | None], Awaitable[Wire]]
REFUSALS = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


@dataclass
class Place:
    """The server's files, and two authorities."""

    folder: Path
    authority: Certified
    other: Certified

    def server(self, **keys: str | bool) -> str:
        """Return the section's lines."""
        tls = {"tls_cert": "certfile.pem", "tls_key": "keyfile.pem", **keys}
        return "\n".join(
            f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in tls.items()
        )

    def trust(self, name: str, *ones: Certified) -> None:
        """Write a file of certificates."""
        (self.folder / name).write_bytes(b"".join(one.cert_file.read_bytes() for one in ones))

    def context(self, one: Certified | None) -> ssl.SSLContext:
        """Return a client's context that presents `one`."""
        ours = self.folder / "cafile.pem"
        return ssl.create_default_context(cafile=str(ours)) if one is None else one.presented_to(ours)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    make_server_certificate(tmp_path)
    one = Place(tmp_path, certified(tmp_path, "ca", ca=True), certified(tmp_path, "other", ca=True))
    one.trust("authorities.pem", one.authority)
    return one


async def reached(server: Server, place: Place, connect: Connect, one: Certified | None) -> Wire:
    """Return a connection on which a request was answered."""
    port = int(server.url.rpartition(":")[2])
    wire = await connect(port, ssl=place.context(one), server_hostname="127.0.0.1")
    await ask(wire)
    return wire


async def ask(wire: Wire) -> None:
    await wire.send(request("GET", "/secret/a"))
    assert (await wire.reply()).status == 200


def certificate(service: FakeService) -> ClientCertificate | None:
    return service.claims[-1].certificate


async def test_a_certificate_of_the_authority_is_taken_with_its_names(
    service: FakeService, launch: Launch, connect: Connect, place: Place
) -> None:
    server = await launch(place.server(tls_client_ca="authorities.pem"))
    web = certified(place.folder, "web", by=place.authority)
    await reached(server, place, connect, web)
    found = certificate(service)
    assert found is not None
    assert found.marks == {("sha256", web.sha256), ("subject", "CN=web")}


async def test_an_intermediate_of_ones_own_is_authority_enough(
    service: FakeService, launch: Launch, connect: Connect, place: Place
) -> None:
    intermediate = certified(place.folder, "intermediate", by=place.authority, ca=True)
    place.trust("authorities.pem", intermediate)
    server = await launch(place.server(tls_client_ca="authorities.pem"))
    await reached(server, place, connect, certified(place.folder, "web", by=intermediate))
    with pytest.raises(REFUSALS):
        await reached(server, place, connect, certified(place.folder, "root-issued", by=place.authority))


async def test_without_an_authority_a_certificate_is_let_in_by_lying_in_the_folder(
    service: FakeService, launch: Launch, connect: Connect, place: Place
) -> None:
    clients = place.folder / "clients"
    clients.mkdir()
    web = certified(clients, "web", subject="CN=backend")
    issued = certified(clients, "issued", by=place.other)
    server = await launch(place.server(tls_client_certs="clients"))
    for one in (web, issued):
        await reached(server, place, connect, one)
        found = certificate(service)
        assert found is not None
        assert found.marks == {("sha256", one.sha256)}
    with pytest.raises(REFUSALS):
        await reached(server, place, connect, certified(place.folder, "same-name", subject="CN=backend"))
    with pytest.raises(REFUSALS):
        await reached(server, place, connect, certified(place.folder, "signed", subject="CN=x", by=web))


@pytest.mark.parametrize("kind", ["none", "another's", "expired", "self-signed"])
async def test_nobody_else_is_heard_where_one_is_required(
    service: FakeService, launch: Launch, connect: Connect, place: Place, kind: str
) -> None:
    server = await launch(place.server(tls_client_ca="authorities.pem"))
    made = {
        "none": lambda: None,
        "another's": lambda: certified(place.folder, "web", by=place.other),
        "expired": lambda: certified(place.folder, "web", by=place.authority, lasts=dt.timedelta(minutes=-1)),
        "self-signed": lambda: certified(place.folder, "web"),
    }
    with pytest.raises(REFUSALS):
        await reached(server, place, connect, made[kind]())
    assert not service.claims


async def test_where_none_is_required_a_client_may_come_without_but_not_with_a_bad_one(
    service: FakeService, launch: Launch, connect: Connect, place: Place
) -> None:
    server = await launch(place.server(tls_client_ca="authorities.pem", tls_client_required=False))
    await reached(server, place, connect, None)
    assert certificate(service) is None
    with pytest.raises(REFUSALS):
        await reached(server, place, connect, certified(place.folder, "web", by=place.other))


async def test_connections_stay_while_whom_to_trust_only_grows(
    service: FakeService, launch: Launch, connect: Connect, place: Place
) -> None:
    server = await launch(place.server(tls_client_ca="authorities.pem"))
    before = await reached(server, place, connect, certified(place.folder, "web", by=place.authority))
    place.trust("authorities.pem", place.authority, place.other)
    make_server_certificate(place.folder)
    await server.reload_certificates()
    await ask(before)
    await reached(server, place, connect, certified(place.folder, "new", by=place.other))


async def test_who_came_with_a_certificate_comes_again_once_somebody_is_not_trusted_any_more(
    service: FakeService, launch: Launch, connect: Connect, place: Place
) -> None:
    server = await launch(place.server(tls_client_ca="authorities.pem", tls_client_required=False))
    web = certified(place.folder, "web", by=place.authority)
    idle, plain = await reached(server, place, connect, web), await reached(server, place, connect, None)
    busy = await reached(server, place, connect, web)
    service.hold = asyncio.Event()
    service.entered.clear()
    await busy.send(request("GET", "/secret/a"))
    async with asyncio.timeout(DEADLINE):
        await service.entered.wait()
    place.trust("authorities.pem", place.other)
    await server.reload_certificates()
    assert await idle.ended()
    service.hold.set()
    assert (await busy.reply()).status == 200
    assert await busy.ended()
    await ask(plain)
    with pytest.raises(REFUSALS):
        await reached(server, place, connect, web)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("authorities.pem", "nothing", "tls_client_ca"),
        ("authorities.pem", "leaf", "no authority's"),
        ("clients.pem", "nothing", "tls_client_certs"),
        ("clients.pem", "authority", "may sign others"),
        ("certfile.pem", "nothing", "tls_cert"),
        ("certfile.pem", "pipe", "tls_cert .*: not a regular file"),
        ("keyfile.pem", "pipe", "tls_key: not a regular file"),
        ("clients.pem", "pipe", "tls_client_certs .*: not a regular file"),
    ],
)
async def test_bad_files_are_refused_by_name_and_the_old_ones_go_on(
    service: FakeService, launch: Launch, connect: Connect, place: Place, file: str, content: str, said: str
) -> None:
    web = certified(place.folder, "web")
    place.trust("clients.pem", web)
    server = await launch(place.server(tls_client_ca="authorities.pem", tls_client_certs="clients.pem"))
    before = await reached(server, place, connect, web)
    match content:
        case "nothing":
            (place.folder / file).write_text("nothing")
        case "pipe":
            (place.folder / file).unlink()
            os.mkfifo(place.folder / file)
        case "leaf":
            place.trust(file, web)
        case _:
            place.trust(file, place.other)
    with pytest.raises(ListenError, match=said):
        await server.reload_certificates()
    await ask(before)
    await reached(server, place, connect, web)


async def test_files_replaced_on_disk_are_taken_up_by_themselves_once_they_hold_still(
    service: FakeService, launch: Launch, connect: Connect, place: Place
) -> None:
    server = await launch(place.server())
    old = place.context(None)
    make_server_certificate(place.folder)  # another authority's
    await server.follow_files()
    port = int(server.url.rpartition(":")[2])
    await connect(port, ssl=old, server_hostname="127.0.0.1")
    await server.follow_files()
    await reached(server, place, connect, None)
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(port, ssl=old, server_hostname="127.0.0.1")
    (place.folder / "keyfile.pem").write_text("half")
    for _ in range(3):
        await server.follow_files()
    await reached(server, place, connect, None)


def test_uvloop_tells_of_the_certificate_as_well(place: Place) -> None:
    config = configured(place.folder, place.server(tls_client_ca="authorities.pem"))
    service = FakeService()
    web = certified(place.folder, "web", by=place.authority)

    async def main() -> None:
        server = await start(service, config, sockets=bind(config))
        wire = await Wire.to(int(server.url.rpartition(":")[2]), ssl=place.context(web), server_hostname="127.0.0.1")
        await ask(wire)
        place.trust("authorities.pem", place.other)
        await server.reload_certificates()
        try:
            assert await wire.ended()
        finally:
            await server.drain(1.0)

    uvloop.run(main())
    found = certificate(service)
    assert found is not None
    assert ("sha256", web.sha256) in found.marks
