from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import CreateSecret, PutSecret, RestoreRequest, RotateKeyRequest, RotateRequest
from secretsd.service.reasons import refuse_values
from tests.unit.support.core import POLICY, Bench

NAME, OTHER = "db_password", "db_other"
NO_KEY: dict[str, Any] = {"idempotency_key": None}
PLANTED = "pl4nted horse"


async def create(bench: Bench, name: str, value: str) -> None:
    await bench.service.create(bench.caller(), CreateSecret(name=name, value=value), **NO_KEY)


async def rotate(bench: Bench, *, client: str = "admin", **body: Any) -> None:
    await bench.service.rotate(bench.caller(client), RotateRequest(**body), **NO_KEY)


async def put(bench: Bench, value: str, **body: Any) -> None:
    request = PutSecret(value=value, **body)
    await bench.service.update(bench.caller(), NAME, request, if_match=None, **NO_KEY)


async def refused(bench: Bench, call: Any, place: str = "") -> None:
    """See that the call is refused without a word of the value, and that nothing of it is kept."""
    before = bench.document.generation
    with pytest.raises(Problem, match=rf"^{place}reason: a value stands in it") as problem:
        await call
    assert (problem.value.slug, problem.value.status) == ("invalid-request", 422)
    assert PLANTED not in str(problem.value)
    assert bench.document.generation == before
    assert PLANTED.encode() not in bench.audit_path.read_bytes()


async def test_a_value_that_is_given_is_in_no_reason(bench: Bench) -> None:
    for name in (NAME, OTHER):
        await create(bench, name, "before")
    reason = f"it is {PLANTED} by now"
    await refused(bench, put(bench, PLANTED, reason=reason))
    await refused(bench, put(bench, base64.b64encode(PLANTED.encode()).decode(), encoding="base64", reason=reason))
    both = {"names": [NAME, OTHER], "values": {OTHER: PLANTED}}
    await refused(bench, rotate(bench, **both, reason=reason), r"names\[1\]: ")
    await put(bench, PLANTED, reason="it is a horse by now")


async def test_a_value_that_is_kept_is_in_no_reason(bench: Bench) -> None:
    await create(bench, NAME, PLANTED)
    await refused(bench, rotate(bench, names=[NAME], reason=f"{PLANTED} leaked"))
    await rotate(bench, names=[NAME], reason="it leaked")
    await refused(bench, put(bench, "another", reason=f"no longer {PLANTED}"))
    back = RestoreRequest(version=1, reason=f"back to {PLANTED}")
    await refused(bench, bench.service.restore(bench.caller(), NAME, back, **NO_KEY))


async def test_who_may_not_read_can_not_guess_a_value_by_it(tmp_path: Path) -> None:
    policy = POLICY.replace('backend: {allow: ["db_*"]}', 'backend: {allow: ["db_*"], can: [rotate]}')
    bench = Bench(tmp_path, policy=policy)
    await create(bench, NAME, "a guess")
    await rotate(bench, client="backend", names=[NAME], reason="is it a guess?")
    await bench.close()


async def test_what_the_daemon_says_by_itself_is_not_judged(bench: Bench) -> None:
    await create(bench, NAME, "version")
    await put(bench, "another")
    await bench.service.restore(bench.caller(), NAME, RestoreRequest(version=1), **NO_KEY)


async def test_a_new_passphrase_is_in_no_reason(bench: Bench) -> None:
    await create(bench, NAME, "before")
    body = RotateKeyRequest(key="passphrase", passphrase=PLANTED, reason=f"now {PLANTED}")
    await refused(bench, bench.service.rotate_key(bench.caller(), body, **NO_KEY))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("pl4nted", "it was pl4nted"),
        ("pl4nted\n", "pl4nted, it was"),
        ("two\nlines", "it was two\nlines".replace("\n", "")),
        ("pl4nted", base64.b64encode(b"pl4nted").decode()),
        ("pl4nted", f"it was {base64.b64encode(b'pl4nted').decode().rstrip('=')}."),
        ("pl4nted", base64.b64encode(b"pl4nted\n").decode()),
        ("pl4nt?d?", base64.urlsafe_b64encode(b"pl4nt?d?").decode()),
        ("pl4nt?d?", base64.urlsafe_b64encode(b"pl4nt?d?").decode().rstrip("=")),
        ("test", "test"),
        ("test", "was it latest, or (test)?"),
        ("t_st", "pw_t_st_2"),
        ("eight678", "the9eight6789"),
        ("p" * 500, "p" * 200),
        ("p" * 500, base64.b64encode(b"p" * 500).decode()[:200]),
    ],
)
def test_a_value_is_found_in_whatever_form_a_reason_keeps_it(value: str, reason: str) -> None:
    with pytest.raises(Problem):
        refuse_values(reason, [Sensitive(value.encode())])


@pytest.mark.parametrize(
    ("value", "reason"),
    [("test", "latest rotation"), ("test", "tests failed"), ("admin", "administrator left"), ("päss", "nepäss, päss3")],
)
def test_a_short_value_within_another_word_is_not_refused(value: str, reason: str) -> None:
    refuse_values(reason, [Sensitive(value.encode())])


@pytest.mark.parametrize("value", ["on", "rot", " \n \t ", "rotations", "\x00\x01\x02\x03"])
def test_what_tells_nothing_or_is_not_there_is_not_refused(value: str) -> None:
    refuse_values("a rotation on    friday", [Sensitive(value.encode())])


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padding", ["", "="])
def test_bytes_are_sought_in_base64_only(encode: Callable[[bytes], bytes], padding: str) -> None:
    data = b"\xff\xfe\xfd\xfc\xfb"
    with pytest.raises(Problem):
        refuse_values(encode(data).decode().rstrip("=") + padding, [Sensitive(data)])
