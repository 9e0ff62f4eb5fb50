"""What the guards keep out: foreign requests, bodies that aren't what they should be, odd names."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.http import Api, raw_exchange
from tests.support.waiting import PATIENCE_SECS

Unique = Callable[..., str]
BAD = (400, 422)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(config={"server": {"allowed_hosts": ["secrets.lan"]}}) as running:
        yield running


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return daemon.api


# Foreign requests

FOREIGN = [
    ("Origin", "http://evil.example"),
    ("Origin", "null"),
    ("Origin", "http://127.0.0.1"),
    ("Referer", "http://evil.example/page"),
    ("Forwarded", "for=192.0.2.1"),
    ("X-Forwarded-For", "192.0.2.1"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "https"),
    ("Via", "1.1 proxy"),
    ("Sec-Fetch-Site", "cross-site"),
]


@pytest.mark.parametrize("header", FOREIGN, ids=lambda header: f"{header[0]}={header[1]}")
@pytest.mark.parametrize("path", ["/secrets", "/secret/x", "/healthz"])
def test_a_request_that_came_through_a_browser_or_a_proxy_is_foreign(
    api: Api, path: str, header: tuple[str, str]
) -> None:
    api.get(path, [header]).refused(403, "foreign-request")


@pytest.mark.parametrize("header", FOREIGN, ids=lambda header: f"{header[0]}={header[1]}")
def test_a_foreign_request_changes_nothing(api: Api, unique: Unique, header: tuple[str, str]) -> None:
    name = unique("x")
    api.post("/secret", {"name": name, "value": "v"}, [header]).refused(403, "foreign-request")
    api.get(f"/secret/{name}").refused(404, "not-found")


def test_a_foreign_request_is_foreign_on_the_unix_socket_too(daemon: Daemon) -> None:
    daemon.unix_api.get("/secrets", {"Origin": "http://evil.example"}).refused(403, "foreign-request")


def test_a_request_of_no_site_is_not_foreign(api: Api) -> None:
    assert api.get("/secrets", {"Sec-Fetch-Site": "none"}).status == 200


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:{port}", "localhost", "localhost:{port}", "LocalHost", "[::1]", "[::1]:{port}",
     "secrets.lan", "secrets.lan:{port}", "Secrets.LAN", "127.0.0.2"],
)  # fmt: skip
def test_loopback_and_the_allowed_hosts_are_let_in(daemon: Daemon, api: Api, host: str) -> None:
    assert api.get("/secrets", {"Host": host.format(port=daemon.port)}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "xlocalhost",
     "evil.example@127.0.0.1", "secrets.lan.evil.example", "", "[::2]", "0.0.0.0", "127.0.0.1:99999:1"],
)  # fmt: skip
def test_any_other_host_is_foreign(api: Api, host: str) -> None:
    answer = api.get("/secrets", {"Host": host})
    assert answer.status in (400, 403), answer.body
    assert b"secrets" not in answer.body.partition(b'"detail"')[0]


def test_two_hosts_are_one_too_many(daemon: Daemon) -> None:
    request = (
        b"GET /secrets HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n"
        b"X-Jarvis-Client: admin\r\nConnection: close\r\n\r\n"
    )
    assert raw_exchange(daemon.port, request).split(b" ", 2)[1] in (b"400", b"403")


def test_two_clients_are_one_too_many(daemon: Daemon) -> None:
    request = (
        b"GET /secrets HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Jarvis-Client: backend\r\nX-Jarvis-Client: admin\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert raw_exchange(daemon.port, request).split(b" ", 2)[1] in (b"400", b"401")


def test_the_unix_socket_takes_any_host(daemon: Daemon) -> None:
    assert daemon.unix_api.get("/secrets", {"Host": "whatever.example"}).status == 200


def test_the_unix_socket_is_for_owner_and_group(daemon: Daemon) -> None:
    assert daemon.socket_path.stat().st_mode & 0o777 == 0o660


# Bodies


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/secret"), ("PUT", "/secret/x"), ("POST", "/rotate")])
def test_a_body_that_is_not_json_by_its_type_is_415(api: Api, method: str, path: str, content_type: str | None) -> None:
    body = json.dumps({"name": "never_made", "value": "v"}).encode()
    answer = api.call(method, path, raw=body, content_type=content_type)
    answer.refused(415, "unsupported-media-type")


def test_a_charset_of_utf_8_is_welcome(api: Api, unique: Unique) -> None:
    body = json.dumps({"name": unique("x"), "value": "v"}).encode()
    api.call("POST", "/secret", raw=body, content_type="application/json; charset=utf-8").ok(201)


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 3 * 1024 * 1024])
def test_a_body_over_one_mib_is_413(api: Api, size: int) -> None:
    body = b'{"name":"never_made","value":"' + b"a" * (size - 32) + b'"}'
    api.call("POST", "/secret", raw=body.ljust(size)).refused(413, "too-large")


def test_a_chunked_body_over_one_mib_is_413(api: Api) -> None:
    chunk = b"a" * 65536
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for _ in range(17)) + b"0\r\n\r\n"
    answer = api.call("POST", "/secret", raw=body, headers={"Transfer-Encoding": "chunked"})
    answer.refused(413, "too-large")


def test_rotate_takes_up_to_eight_mib(api: Api, unique: Unique) -> None:
    names = [unique("x") for _ in range(24)]
    for name in names:
        api.create(name, "v")
    values = dict.fromkeys(names, "b" * 65536)
    assert len(api.rotate(*names, values=values)) == 24
    too_much = json.dumps({"names": names, "values": values}).encode().ljust(8 * 1024 * 1024 + 1)
    api.call("POST", "/rotate", raw=too_much).refused(413, "too-large")


MALFORMED = {
    "nothing": b"",
    "half an object": b'{"name":"never_made",',
    "a string": b'"x"',
    "an array": b'["x"]',
    "null": b"null",
    "more after it": b'{"name":"never_made","value":"v"} x',
    "doubled member": b'{"name":"never_made","value":"a","value":"b"}',
    "doubled member in disguise": b'{"name":"never_made","value":"a","v\\u0061lue":"b"}',
    "not UTF-8": b'{"name":"never_made","value":"\xff\xfe"}',
    "overlong UTF-8": b'{"name":"never_made","value":"\xc0\xaf"}',
    "a surrogate's half": b'{"name":"never_made","value":"\\ud800"}',
    "not a number": b'{"name":"never_made","value":NaN}',
    "unknown member": b'{"name":"never_made","value":"v","colour":"red"}',
    "name of another type": b'{"name":7,"value":"v"}',
    "value of another type": b'{"name":"never_made","value":7}',
    "value null": b'{"name":"never_made","value":null}',
    "no name": b'{"value":"v"}',
    "empty value": b'{"name":"never_made","value":""}',
    "unknown encoding": b'{"name":"never_made","value":"v","encoding":"rot13"}',
    "bad base64": b'{"name":"never_made","value":"a","encoding":"base64"}',
    "base64 with garbage": b'{"name":"never_made","value":"YW*J","encoding":"base64"}',
    "unknown type": b'{"name":"never_made","value":"v","type":"certificate"}',
    "bad duration": b'{"name":"never_made","value":"v","rotation_period":"soon"}',
    "negative duration": b'{"name":"never_made","value":"v","rotation_period":"-1d"}',
    "no rotation": b'{"name":"never_made","value":"v","rotation":"sometimes"}',
    "deep": b'{"name":"never_made","value":' + b"[" * 100 + b"]" * 100 + b"}",
    "very deep": b"[" * 500_000,
    "deep objects": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_body_is_refused_and_changes_nothing(api: Api, body: bytes) -> None:
    api.call("POST", "/secret", raw=body).refused(BAD, "invalid-request", "value-required")
    api.get("/secret/never_made").refused(404, "not-found")


@pytest.mark.parametrize(
    ("value", "fields"), [("a" * 65537, {}), ("ż" * 32769, {}), ("A" * 87384, {"encoding": "base64"})]
)
def test_a_value_over_64_kib_is_refused(api: Api, value: str, fields: dict[str, str]) -> None:
    body = {"name": "never_made", "value": value, **fields}
    api.post("/secret", body).refused((400, 413, 422), "invalid-request", "too-large")
    api.get("/secret/never_made").refused(404, "not-found")


def test_a_refusal_never_repeats_the_value(api: Api) -> None:
    planted = "Zm9yLW5vLWV5ZXM"
    for body in (
        {"name": "../x", "value": planted},
        {"name": "x", "value": planted, "encoding": planted},
        {"name": "x", "value": planted, "type": planted},
        {"name": "x", "value": [planted]},
        {"name": "x", planted: planted},
        {"name": "x", "value": planted, "rotation_period": planted},
    ):
        answer = api.post("/secret", body)
        answer.refused(BAD, "invalid-request")
        assert planted.encode() not in answer.body


@pytest.mark.parametrize(
    "body",
    [{}, {"names": []}, {"names": "x"}, {"names": ["x", "x"]}, {"names": ["x"], "values": {"y": "v"}},
     {"names": ["x"], "urgent": "yes"}, {"names": ["x"], "reason": "r" * 201}, {"names": ["x"], "grace_period": "1"},
     {"names": ["x\n"]}, {"names": ["x"], "grace_period": "1d\n"},
     {"names": ["x"], "values": {"x": {"value": "v", "colour": "red"}}}, {"names": ["x"], "values": {"x": ""}}],
    ids=json.dumps,
)  # fmt: skip
def test_a_rotation_that_makes_no_sense_is_refused(api: Api, body: dict[str, object]) -> None:
    if api.get("/secret/x").status == 404:
        api.create("x", type="generic")
    before = api.secret("x")
    api.post("/rotate", body).refused(BAD, "invalid-request")
    assert api.secret("x") == before


def test_a_reason_with_control_characters_is_written_down_without_them(
    daemon: Daemon, api: Api, unique: Unique
) -> None:
    name = unique("x")
    api.create(name, type="generic")
    api.rotate(name, reason="bell\u0007, delete\u007f and\nline")
    reason = daemon.lines()[-1]["data"]["reason"]
    assert reason.startswith("bell")
    assert reason.isprintable()
    daemon.verified_log()


@pytest.mark.parametrize("body", [{}, {"version": 0}, {"version": "1"}, {"version": 1.5}, {"version": True}])
def test_a_restore_that_makes_no_sense_is_refused(api: Api, unique: Unique, body: dict[str, object]) -> None:
    name = unique("x")
    api.create(name, "v")
    api.post(f"/secret/{name}/restore", body).refused(BAD, "invalid-request")


# Names

ODD = [
    "",
    ".hidden",
    "-x",
    "_x",
    "a b",
    "a/b",
    "../etc/passwd",
    "ż",
    "a\n",
    "a\x00",
    "x" * 129,
    "a#b",
    "a+b",
    "$SYS",
]


@pytest.mark.parametrize("name", ODD, ids=repr)
def test_a_name_that_is_none_cannot_be_created(api: Api, name: str) -> None:
    api.post("/secret", {"name": name, "value": "v"}).refused(BAD, "invalid-request")


@pytest.mark.parametrize(
    "path",
    [
        ".hidden",
        "a%20b",
        "a%2Fb",
        "%2e%2e%2fetc%2fpasswd",
        "%C5%BC",
        "a%0A",
        "a%00",
        "x" * 129,
        "%ff",
        "a%",
        "%",
    ],
)
def test_an_odd_name_in_the_path_is_refused_plainly(api: Api, path: str) -> None:
    api.get(f"/secret/{path}").refused((400, 404, 422), "invalid-request", "not-found")
    api.as_("backend").get(f"/secret/{path}").refused((400, 403, 404, 422), "invalid-request", "not-found", "forbidden")


@pytest.mark.parametrize("name", ["a", "A.b-c_d", "0", "x" * 128, "a..b", "a."])
def test_every_name_of_the_promised_form_works(api: Api, name: str) -> None:
    api.create(name, "v", type="generic")
    assert api.value(name) == "v"


def test_long_paths_and_headers_do_not_hurt(daemon: Daemon, api: Api) -> None:
    assert 400 <= api.get("/secret/" + "x" * 20_000).status < 500
    assert 400 <= api.get("/secrets", {"X-Jarvis-Client": "x" * 20_000}).status < 500
    assert api.get("/healthz").status == 200


def test_what_is_no_http_is_answered_or_closed(daemon: Daemon, api: Api) -> None:
    raw_exchange(daemon.port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    assert api.get("/healthz").status == 200


def test_a_peer_that_closes_its_half_gets_the_answers_to_all_it_asked(daemon: Daemon) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw_exchange(daemon.port, ask * 3, half_close=True).count(b"HTTP/1.1 200 OK\r\n") == 3


def test_a_peer_that_closes_right_after_its_answer_leaves_no_connection_open(daemon: Daemon) -> None:
    """However the two meet: an end that comes while the daemon finishes with a request was missed by one in four."""
    ask = b"GET /secrets HTTP/1.1\r\nHost: localhost\r\nX-Jarvis-Client: admin\r\n\r\n"
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE_SECS) as connection:
            connection.sendall(ask)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass  # the rest of the answer


def test_a_peer_that_closes_its_half_within_a_body_is_told_so(daemon: Daemon) -> None:
    head = b"POST /secret HTTP/1.1\r\nHost: localhost\r\nX-Jarvis-Client: admin\r\nContent-Type: application/json\r\n"
    answer = raw_exchange(daemon.port, head + b"Content-Length: 500\r\n\r\n{", half_close=True)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"X-Request-Id: " in answer
