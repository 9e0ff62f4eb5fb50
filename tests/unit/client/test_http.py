"""The transport: who we say we are, whom we trust with it, and what a failure looks like."""

from __future__ import annotations

import os
import socket
import traceback
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from secretsd_client import HttpTransport, Response, SecretsError, SecretsUnavailable, _socket

from tests.unit.client.daemon import FakeDaemon


async def test_a_request_names_the_client_and_carries_its_token(daemon):
    async with HttpTransport(daemon.url, client_id="tester", token="s3cret") as http:
        answer = await http.request("GET", "/secret/db", headers={"If-None-Match": '"none"'})
    assert answer.status == 200
    assert answer.json()["value"] == "first"
    assert answer.headers["vault-generation"] == f"epoch-1:{daemon.generation}"
    _, headers = daemon.requests[-1]
    assert headers["X-Jarvis-Client"] == "tester"
    assert headers["Authorization"] == "Bearer s3cret"
    assert headers["If-None-Match"] == '"none"'


async def test_the_proxy_of_the_environment_is_ignored(daemon, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with HttpTransport(daemon.url, client_id="tester") as http:
        assert (await http.request("GET", "/secret/db")).status == 200


async def test_every_status_comes_back_as_an_answer(daemon):
    async with HttpTransport(daemon.url, client_id="tester") as http:
        assert (await http.request("GET", "/secret/nothing")).status == 404
        assert (await http.request("POST", "/secret/db", body={"value": "x"})).status == 405


async def test_a_redirect_is_not_followed_and_no_cookie_is_kept(daemon):
    cookies = []

    async def elsewhere(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        return web.Response(status=307, headers={"Location": f"{daemon.url}/secret/db", "Set-Cookie": "a=b"})

    app = web.Application()
    app.router.add_get("/secret/db", elsewhere)
    # aiohttp's own jar keeps no cookie of an address; of a name it does.
    async with (
        TestServer(app, host="localhost") as server,
        HttpTransport(f"http://localhost:{server.port}", client_id="tester", token="s3cret") as http,
    ):
        statuses = [(await http.request("GET", "/secret/db")).status for _ in range(2)]
    assert statuses == [307, 307]
    assert cookies == [None, None]
    assert daemon.requests == []  # a token goes to nobody but whom it is for


async def test_nobody_there_is_unavailable():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with HttpTransport(f"http://127.0.0.1:{closed.getsockname()[1]}", client_id=None) as http:
            with pytest.raises(SecretsUnavailable, match="can't be asked"):
                await http.request("GET", "/healthz")


async def test_no_answer_in_time_is_unavailable():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with HttpTransport(url, client_id=None, timeout_secs=0.1) as http:
            with pytest.raises(SecretsUnavailable, match=r"no answer within 0\.1 s"):
                await http.request("GET", "/healthz")


async def test_a_token_file_is_read_again_when_it_changes(daemon, tmp_path):
    path = tmp_path / "token"
    path.write_text("one\n")
    daemon.token = "one"
    async with HttpTransport(daemon.url, client_id="tester", token_file=path) as http:
        assert (await http.request("GET", "/secret/db")).status == 200
        daemon.token = "two"
        assert (await http.request("GET", "/secret/db")).status == 401
        (tmp_path / "new").write_text("two\n")
        (tmp_path / "new").replace(path)
        assert (await http.request("GET", "/secret/db")).status == 200


async def test_a_token_file_that_changed_unnoticed_is_read_again_after_a_refusal(daemon, tmp_path):
    path = tmp_path / "token"
    path.write_text("one")
    daemon.token = "one"
    async with HttpTransport(daemon.url, client_id="tester", token_file=path) as http:
        assert (await http.request("GET", "/secret/db")).status == 200
        before = path.stat()
        path.write_text("two")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        daemon.token = "two"
        assert (await http.request("GET", "/secret/db")).status == 200


async def test_a_token_file_that_is_gone_or_empty_for_a_moment_does_no_harm(daemon, tmp_path):
    path = tmp_path / "token"
    path.write_text("one")
    daemon.token = "one"
    async with HttpTransport(daemon.url, client_id="tester", token_file=path) as http:
        assert (await http.request("GET", "/secret/db")).status == 200
        path.write_text("")
        assert (await http.request("GET", "/secret/db")).status == 200
        daemon.token = "two"
        assert (await http.request("GET", "/secret/db")).status == 401
        daemon.token = "one"
        path.unlink()
        assert (await http.request("GET", "/secret/db")).status == 200
    async with HttpTransport(daemon.url, client_id="tester", token_file=path) as http:
        with pytest.raises(SecretsUnavailable, match="token file"):
            await http.request("GET", "/secret/db")


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8081", "ftp://host", "http://", "http://user:pw@host", "unix://relative", "unix:/short"),
        *("http://h?q", "http://[::1", "http://h:x", "http://h:0", "http://h:65536", "http://h ", "http://h\nX: y"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_being_shown(url):
    with pytest.raises(SecretsError) as caught:
        HttpTransport(url, client_id=None)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"token": "a", "token_file": Path("b")}, {"token": ""}, {"token": "a\nb"}])
def test_tokens_that_make_no_sense_are_refused(arguments):
    with pytest.raises(SecretsError):
        HttpTransport("http://host", client_id=None, **arguments)


@pytest.mark.parametrize("client_id", ["", "a\r\nb", "é"])
def test_a_client_s_name_that_fits_no_header_is_refused(client_id):
    with pytest.raises(SecretsError):
        HttpTransport("http://host", client_id=client_id)


def test_nothing_shows_a_token_or_a_body():
    http = HttpTransport("http://host", client_id="c", token="planted-token")
    assert "planted" not in repr(http) + repr(vars(http))
    assert repr(Response(200, {"A": "planted"}, b"planted")) == "Response(status=200)"


async def test_a_failure_reported_with_its_frames_variables_shows_no_token(daemon):
    await daemon.stop()
    async with HttpTransport(daemon.url, client_id="tester", token="planted-token") as http:
        with pytest.raises(SecretsUnavailable) as caught:
            await http.request("GET", "/secret/db")
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    frames = shown.split("test_http.py")[-1]  # this test's own frame knows the token
    assert "failure" in frames
    assert "planted-token" not in frames


def test_the_environment_says_where_and_who(monkeypatch, tmp_path):
    monkeypatch.setenv("JARVIS_SECRETS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("JARVIS_CLIENT_ID", "somebody")
    monkeypatch.setenv("JARVIS_CLIENT_TOKEN_FILE", str(tmp_path / "token"))
    http = HttpTransport.from_env()
    assert (http.url, http.client_id) == ("http://127.0.0.1:9", "somebody")


# The Unix socket


async def test_the_unix_socket_is_spoken_to(tmp_path):
    daemon = FakeDaemon(unix_socket=tmp_path / "s.sock")
    daemon.put("db", "first")
    await daemon.start()
    async with HttpTransport(daemon.url, client_id="tester") as http:
        assert (await http.request("GET", "/secret/db")).json()["value"] == "first"
    await daemon.close()


async def test_no_request_goes_to_a_socket_of_a_stranger(tmp_path, monkeypatch):
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as strange:
        strange.bind(str(path))
        strange.listen()
        monkeypatch.setattr(_socket, "doubt", lambda _: "a stranger's")
        monkeypatch.setattr("secretsd_client._http.doubt", lambda _: "a stranger's")
        async with HttpTransport(f"unix://{path}", client_id="c") as http:
            with pytest.raises(SecretsUnavailable, match="stranger"):
                await http.request("GET", "/secret/db")
        strange.setblocking(False)
        with pytest.raises(BlockingIOError):
            strange.accept()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users: needs root")


@pytest.fixture
def unix_socket(tmp_path):
    tmp_path.chmod(0o755)
    path = tmp_path / "run" / "s.sock"
    path.parent.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        yield path


def test_a_socket_of_ours_is_trusted(unix_socket):
    assert _socket.doubt(unix_socket) is None


def test_a_file_is_no_socket_and_an_absent_one_is_said_to_be_absent(tmp_path):
    (tmp_path / "file").touch()
    assert "not a socket" in (_socket.doubt(tmp_path / "file") or "")
    assert "No such file" in (_socket.doubt(tmp_path / "nothing") or "")


@needs_root
def test_a_stranger_s_socket_in_our_folder_is_not_trusted(unix_socket):
    os.chown(unix_socket, 4711, 4711)
    assert "uid 4711, neither root nor you, in a folder" in (_socket.doubt(unix_socket) or "")


@needs_root
def test_a_service_user_s_socket_is_trusted_where_root_made_that_user_s_folder(tmp_path, monkeypatch, unix_socket):
    os.chown(unix_socket, 4711, 4711)
    os.chown(unix_socket.parent, 4711, 4711)
    monkeypatch.setattr(_socket, "_ancestors", lambda folder: iter([tmp_path.stat()]))
    assert _socket.doubt(unix_socket) is None
    unix_socket.parent.chmod(0o775)
    assert "isn't closed" in (_socket.doubt(unix_socket) or "")


@needs_root
def test_a_service_user_s_socket_below_another_user_s_folder_is_not_trusted(tmp_path, monkeypatch, unix_socket):
    os.chown(unix_socket, 4711, 4711)
    os.chown(unix_socket.parent, 4711, 4711)
    os.chown(tmp_path, 4712, 4712)
    monkeypatch.setattr(_socket, "_ancestors", lambda folder: iter([tmp_path.stat()]))
    assert "may change" in (_socket.doubt(unix_socket) or "")


@needs_root
def test_a_service_user_s_socket_below_a_folder_open_to_all_is_not_trusted(tmp_path, unix_socket):
    os.chown(unix_socket, 4711, 4711)
    os.chown(unix_socket.parent, 4711, 4711)
    tmp_path.chmod(0o1777)
    assert "may change" in (_socket.doubt(unix_socket) or "")
