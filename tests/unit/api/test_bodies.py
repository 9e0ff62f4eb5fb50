from __future__ import annotations

import json

import msgspec
import pytest

from secretsd.api import bodies
from secretsd.errors import Problem
from secretsd.model import (
    AcknowledgeRequest,
    CreateSecret,
    CreateSecrets,
    PutSecret,
    Request,
    RestoreRequest,
    RotateRequest,
    ValueIn,
)
from tests.unit.api.conftest import Ask, Connect
from tests.unit.api.support import FakeService, request

PLANTED = "hunter2-planted"


def refused(data: bytes, kind: type[Request] = PutSecret) -> Problem:
    with pytest.raises(Problem) as caught:
        bodies.parse(data, kind)
    assert caught.value.slug == "invalid-request"
    assert PLANTED not in caught.value.detail
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not json", id="no json"),
        pytest.param(b'{"value":"v"} {}', id="two texts"),
        pytest.param(b"{'value':'v'}", id="single quotes"),
        pytest.param(b'{"value":"v",}', id="trailing comma"),
        pytest.param(b'\xef\xbb\xbf{"value":"v"}', id="byte order mark"),
        pytest.param(b'{"value":"\xff"}', id="not UTF-8"),
        pytest.param('{"value":"v"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"value":"\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"value":"a","value":"b"}', id="doubled member"),
        pytest.param(b'{"value":"a","\\u0076alue":"b"}', id="doubled member, escaped"),
        pytest.param(b'{"value":"v","x":{"a":1,"a":2}}', id="doubled member, inside"),
        pytest.param(b'{"value":NaN}', id="NaN"),
        pytest.param(b'{"value":-Infinity}', id="Infinity"),
        pytest.param(b'{"grace_days":9007199254740992}', id="2^53"),
        pytest.param(b'{"grace_days":-9007199254740992}', id="-2^53"),
        pytest.param(b'{"grace_days":' + b"9" * 5000 + b"}", id="5000 digits"),
        pytest.param(b'{"value":"a\nb"}', id="raw control character"),
        pytest.param(b"[" * 17 + b"]" * 17, id="17 deep"),
        pytest.param(b'{"a":' * 100_000, id="100,000 deep"),
        pytest.param(b"[" + b"[]," * 250_000 + b"[]]", id="250,000 arrays"),
        pytest.param(b'"' * 8 * 1024 * 1024, id="8 MiB of quotes"),
        pytest.param(b'"' + b'\\"' * 4 * 1024 * 1024, id="8 MiB of escaped quotes"),
        pytest.param(b'"' + b'\\"' * 4 * 1024 * 1024 + b"\\", id="8 MiB of escaped quotes and half an escape"),
        pytest.param(b"\\" * 8 * 1024 * 1024, id="8 MiB of backslashes"),
    ],
)
def test_what_cannot_be_read_in_one_way_is_400(data: bytes) -> None:
    assert refused(data).status == 400


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b" \n", "is empty; send a JSON object"),
        (b'{"value": "a",\n "b": hunter2-planted}', "isn't JSON from line 2, column 7 on"),
        (b'{"value": "\\hunter2-planted"}', "isn't JSON from line 1, column 12 on"),
        (b'{"value": "\\udc00"}', "half of a surrogate pair"),
        (b'{"value": "\xe9"}', "isn't UTF-8"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_where_and_shown_nowhere(data: bytes, says: str) -> None:
    assert says in refused(data).detail


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[" + b"1," * 2_000_000 + b"1]", "more than 200000 members and items"),
        (b"[" + b'"n",' * 2_000_000 + b'"n"]', "more than 400000 strings"),
        (b'{"a":' + b'"":' * 1_000_000, "more than 400000 strings"),
    ],
)
def test_more_parts_than_any_call_takes_are_refused_unparsed(data: bytes, says: str) -> None:
    assert says in refused(data).detail


def test_the_largest_batch_can_be_read() -> None:
    entry = {"value": '","' * 100, "encoding": "utf-8", "type": "password", "rotation": "auto", "rotation_period": "1d"}
    body = {"secrets": [{"name": f"s{number}", **entry} for number in range(10_000)]}
    assert len(bodies.parse(json.dumps(body).encode(), CreateSecrets).secrets) == 10_000


def test_brackets_within_strings_are_no_depth() -> None:
    deep = "[" * 100 + '"\\'
    assert bodies.parse(json.dumps({"value": deep}).encode(), PutSecret).value == deep


def test_the_largest_safe_integer_can_be_read() -> None:
    assert bodies.parse(b'{"version":9007199254740991}', RestoreRequest).version == 2**53 - 1


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        (PutSecret, [], "the body is a JSON object"),
        (PutSecret, {}, "missing required field `value`"),
        (PutSecret, {"value": 5}, "value: expected `str`, got `int`"),
        (PutSecret, {"value": "v", PLANTED: 1}, "an unknown member; allowed are value, encoding"),
        (PutSecret, {"value": "v", "encoding": PLANTED}, "encoding: allowed are utf-8, base64"),
        (PutSecret, {"value": "v", "urgent": PLANTED}, "urgent: expected `bool`, got `str`"),
        (PutSecret, {"value": "v", "grace_days": -1}, "grace_days: expected `int` >= 0"),
        (PutSecret, {"value": "v", "grace_days": 1.5}, "grace_days: expected `int`, got `float`"),
        (PutSecret, {"value": "v", "grace_period": PLANTED}, "grace_period: a duration is a number and a unit"),
        (PutSecret, {"value": "v", "reason": PLANTED * 100}, "reason: expected `str` of length <= 200"),
        (CreateSecret, {"name": PLANTED + "/"}, "name: 1 to 128 of A-Z"),
        (CreateSecret, {"name": "a", "type": PLANTED}, "type: allowed are jwt_signing_key, password"),
        (CreateSecrets, {"secrets": [{"name": "a", PLANTED: 1}]}, "secrets[0]: an unknown member; allowed are name"),
        (CreateSecrets, {"secrets": [{"name": PLANTED + "\n"}]}, "a name: 1 to 128"),
        (CreateSecrets, {"secrets": []}, "secrets: expected `array` of length >= 1"),
        (CreateSecret, {"name": "a", "rotation": PLANTED}, "rotation: allowed are auto, manual"),
        (CreateSecret, {"name": PLANTED + "\n"}, "a name: 1 to 128"),
        (RotateRequest, {"names": ["a", "b\n"]}, "a name: 1 to 128"),
        (RotateRequest, {"names": ["a"], "values": {"a\n": "v"}}, "a name: 1 to 128"),
        (RotateRequest, {"names": []}, "names: expected `array` of length >= 1"),
        (RotateRequest, {"names": ["a", 1]}, "names[1]: expected `str`, got `int`"),
        (RotateRequest, {"names": ["a"], "values": {PLANTED + " ": "v"}}, "a key of values: 1 to 128 of A-Z"),
        (
            RotateRequest,
            {"names": ["a"], "values": {"a": 1}},
            "values[...]: expected `str | object`, got `int`",
        ),
        (
            RotateRequest,
            {"names": ["a"], "values": {"a": {"value": "v", PLANTED: 1}}},
            "values[...]: an unknown member; allowed are value, encoding.",
        ),
        (
            RotateRequest,
            {"names": ["a"], "values": {"a": {"value": "v", "encoding": PLANTED}}},
            "allowed are utf-8",
        ),
        (AcknowledgeRequest, {"kid": PLANTED}, "kid: 16 to 64 of A-Z, a-z"),
        (RestoreRequest, {"version": 0}, "version: expected `int` >= 1"),
        (RestoreRequest, {"version": True}, "version: expected `int`, got `bool`"),
    ],
)
def test_a_wrong_member_is_422_and_the_detail_says_where_and_what(kind: type[Request], body: object, says: str) -> None:
    problem = refused(json.dumps(body).encode(), kind)
    assert problem.status == 422
    assert says.lower() in problem.detail.lower()


def test_a_message_of_an_unknown_form_is_not_passed_on() -> None:
    said = bodies.explain(f"Something new about '{PLANTED}' - at `$.value`", PutSecret)
    assert said == "value: not what is allowed there; GET /openapi.json says what is."
    assert PLANTED not in bodies.explain(f"Expected `{PLANTED}`", PutSecret)


def test_values_of_a_rotation_are_text_or_come_with_an_encoding() -> None:
    body = bodies.parse(
        b'{"names":["a","b"],"values":{"a":"text","b":{"value":"AA==","encoding":"base64"}}}', RotateRequest
    )
    assert body.values == {"a": "text", "b": ValueIn(value="AA==", encoding="base64")}
    assert body.grace_period is msgspec.UNSET


async def test_an_expectation_is_met_before_the_body_is_read(port: int, service: FakeService, connect: Connect) -> None:
    wire = await connect(port)
    body = b'{"value":"v"}'
    whole = request("PUT", "/secret/a", {"Expect": "100-continue"}, body)
    await wire.send(whole[: -len(body)])
    interim = await wire.reply()
    assert interim.status == 100
    assert service.calls == []
    await wire.send(body)
    assert (await wire.reply()).status == 200


async def test_http_1_0_knows_no_expectation(port: int, connect: Connect) -> None:
    wire = await connect(port)
    whole = request("PUT", "/secret/a", {"Expect": "100-continue"}, b'{"value":"v"}')
    await wire.send(whole.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1))
    assert (await wire.reply()).status == 200


async def test_a_body_that_is_refused_is_not_asked_for(ask: Ask) -> None:
    reply = await ask("PUT", "/secret/a", {"Expect": "100-continue", "Content-Length": "99999999"}, b"")
    assert reply.status == 413


async def test_a_body_that_does_not_come_is_given_up(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "READ_SECONDS", 0.05)
    reply = await ask("PUT", "/secret/a", {"Content-Length": "100"}, b"{")
    assert (reply.status, reply.problem) == (400, "invalid-request")


async def test_broken_chunks_are_a_bad_request(ask: Ask) -> None:
    reply = await ask("PUT", "/secret/a", {"Transfer-Encoding": "chunked"}, b"zz\r\n" + PLANTED.encode() + b"\r\n")
    assert (reply.status, reply.problem) == (400, "invalid-request")
    assert PLANTED.encode() not in reply.raw
