"""TLS to the daemon: whom the client trusts, what it presents, and what a mistake looks like."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from secretsd_client import HttpTransport, SecretsError, SecretsUnavailable, Settings

from tests.support.certificates import Certified, certified
from tests.support.tls import make_server_certificate


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return make_server_certificate(tmp_path)


@pytest.fixture
def ours(tmp_path: Path) -> Certified:
    return certified(tmp_path, "ours")


@pytest.fixture
async def url(files: dict[str, Path], ours: Certified) -> AsyncIterator[str]:
    """A server that asks for our certificate and answers with its serial number."""

    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        presented = request.transport.get_extra_info("ssl_object").getpeercert()
        return web.json_response({"serial": int(presented["serialNumber"], 16)})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ours.cert_file))
    context.load_cert_chain(files["certfile"], files["keyfile"])
    context.verify_mode = ssl.CERT_REQUIRED
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def transport(url: str, files: dict[str, Path], one: Certified | None) -> HttpTransport:
    return HttpTransport(
        url,
        client_id=None,
        ca_file=files["cafile"],
        cert_file=None if one is None else one.cert_file,
        key_file=None if one is None else one.key_file,
    )


async def test_the_certificate_is_presented_to_a_daemon_that_the_ca_file_vouches_for(
    url: str, files: dict[str, Path], ours: Certified
) -> None:
    async with transport(url, files, ours) as http:
        assert (await http.request("GET", "/")).json()["serial"] == ours.certificate.serial_number


async def test_a_daemon_that_nobody_vouches_for_is_not_asked(url: str, ours: Certified) -> None:
    async with HttpTransport(url, client_id=None, cert_file=ours.cert_file, key_file=ours.key_file) as http:
        with pytest.raises(SecretsUnavailable, match="JARVIS_SECRETS_CA_FILE"):
            await http.request("GET", "/")


async def test_a_daemon_that_wants_a_certificate_and_gets_none_is_named_as_the_reason(
    url: str, files: dict[str, Path]
) -> None:
    async with transport(url, files, None) as http:
        with pytest.raises(SecretsUnavailable, match="JARVIS_CLIENT_CERT_FILE"):
            await http.request("GET", "/")


async def test_a_renewed_certificate_is_presented_from_the_next_request_on(
    url: str, files: dict[str, Path], ours: Certified, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    own = replace(ours, cert_file=tmp_path / "own/c.pem", key_file=tmp_path / "own/k.pem")
    shutil.copyfile(ours.cert_file, own.cert_file)
    shutil.copyfile(ours.key_file, own.key_file)
    async with transport(url, files, own) as http:
        await http.request("GET", "/")
        other = certified(tmp_path, "other", by=ours)
        other.cert_file.replace(own.cert_file)
        # Half of the replacement is done: the old certificate still does.
        assert (await http.request("GET", "/")).json()["serial"] == ours.certificate.serial_number
        other.key_file.replace(own.key_file)
        with pytest.raises(SecretsUnavailable):  # presented now, and not let in: it isn't an authority's
            await http.request("GET", "/")


async def test_files_that_are_missing_or_no_certificates_are_told_apart(
    files: dict[str, Path], ours: Certified
) -> None:
    missing = HttpTransport("https://127.0.0.1:1", client_id=None, ca_file=Path("/nowhere/ca.pem"))
    with pytest.raises(SecretsUnavailable, match=r"/nowhere/ca\.pem can't be read"):
        await missing.request("GET", "/")
    ours.key_file.write_text("planted-value")
    with pytest.raises(SecretsError, match="not what it should be") as caught:
        await transport("https://127.0.0.1:1", files, ours).request("GET", "/")
    assert "planted-value" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(url="https://x:1", cert_file=Path("c")), "come together"),
        (Settings(url="https://x:1", key_file=Path("k")), "come together"),
        (Settings(url="http://127.0.0.1:1", ca_file=Path("c")), "https://"),
        (Settings(url="unix:///s", cert_file=Path("c"), key_file=Path("k")), "https://"),
    ],
)
def test_files_that_make_no_sense_are_refused_where_the_client_is_made(settings: Settings, said: str) -> None:
    with pytest.raises(SecretsError, match=said):
        settings.check()


def test_the_environment_names_the_files() -> None:
    read = Settings.from_env(
        {"JARVIS_SECRETS_URL": "https://x", "JARVIS_SECRETS_CA_FILE": "/ca", "JARVIS_CLIENT_CERT_FILE": "/c",
         "JARVIS_CLIENT_KEY_FILE": "/k"}
    )  # fmt: skip
    assert (read.ca_file, read.cert_file, read.key_file) == (Path("/ca"), Path("/c"), Path("/k"))
