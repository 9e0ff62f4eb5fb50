"""The recipe in docs/howto/verify-a-message.md: what needs no software of ours to be checked."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from secretsd_bus import BusSettings, Chain, Event, Link, SigningKey, Topics, Unchained

from tests.support.broker import Broker
from tests.support.recipe import DOCUMENTS, recipe
from tests.vectors import event_vectors
from tests.vectors.event_vectors import secret_data

TIME = "2026-11-23T17:00:00.123Z"
KEY = SigningKey.generate()

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("jq", "openssl", "base64", "cmp"))), reason="needs jq and openssl"
)


def events() -> list[Event]:
    chain = Chain(log_id="log", node="pi", key=KEY)
    loose = Unchained(log_id="log", node="pi", key=KEY, session=3)
    odd = secret_data(reason='„neu" \\ / é 😀 \x80 \u2028 \U0010ffff', generation=2**53 - 1, spread_ms=-(2**53) + 1)
    return [
        chain.append("secret.rotated", "postgres_password", secret_data(), TIME),
        chain.append("secret.deleted", "postgres_password", odd, TIME),
        chain.append("access.denied", None, {"client": None, "name": "postgres_password", "count": 3}, TIME),
        chain.append("daemon.started", None, {}, TIME),
        loose.seal("secret.state", "postgres_password", secret_data(), TIME),
    ]


def run(name: str, folder: Path, raw: bytes) -> subprocess.CompletedProcess[str]:
    (folder / "event.json").write_bytes(raw)
    (folder / "audit.sign.pub").write_bytes(KEY.public.to_pem())
    return subprocess.run(
        ["sh", "-c", recipe(name)], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("event", events(), ids=lambda event: event.type)
def test_jq_and_openssl_verify_what_we_sign(tmp_path: Path, event: Event) -> None:
    done = run("verify", tmp_path, event.raw)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout


@pytest.mark.parametrize(
    "forge",
    [
        lambda raw: raw.replace(b'"version":2', b'"version":3'),
        lambda raw: raw.replace(b'"version":2', b'"version": 2'),
        lambda raw: raw + b"\n",
        lambda raw: raw.replace(KEY.keyid.encode(), b"0" * 16),
        lambda raw: Chain(log_id="log", node="pi", key=SigningKey.generate()).append("a.b", None, {}, TIME).raw,
    ],
    ids=["altered", "space", "newline", "keyid", "stranger"],
)
def test_the_recipe_fails_for_what_a_verifier_refuses(tmp_path: Path, forge: Any) -> None:
    assert run("verify", tmp_path, forge(events()[0].raw)).returncode != 0


@pytest.mark.parametrize("event", events()[:4], ids=lambda event: event.type)
def test_the_recipe_names_the_topics_on_which_an_event_counts(tmp_path: Path, event: Event) -> None:
    done = run("topic", tmp_path, event.raw)
    assert {f"p/{topic}" for topic in done.stdout.split()} == Topics("p").of(event), done.stderr


def test_the_recipe_of_the_chain_gives_the_next_lines_prev(tmp_path: Path) -> None:
    chain = Chain(log_id="log", node="pi", key=KEY)
    lines = [chain.append("secret.read", None, {"n": n}, TIME) for n in range(42)]
    (tmp_path / "audit.jsonl").write_bytes(b"".join(line.raw + b"\n" for line in lines))
    assert run("chain", tmp_path, b"").stdout.strip() == lines[41].prev


def test_the_documents_example_is_one_of_the_vectors() -> None:
    example = (DOCUMENTS / "events.md").read_text().split("```json\n")[1].split("```")[0]
    accepted = {vector["name"]: vector for vector in event_vectors.accepted()}
    assert json.loads(example) == json.loads(accepted["secret-rotated"]["payload"])


async def test_a_message_taken_from_the_broker_by_the_recipe_verifies(broker: Broker, tmp_path: Path) -> None:
    if shutil.which("mosquitto_sub") is None:
        pytest.skip("needs mosquitto_sub")
    event = events()[1]
    settings = BusSettings(broker.url)
    link = await Link.connect(settings, client_id="recipe")
    receiving = subprocess.Popen(  # noqa: ASYNC220 — it takes a millisecond
        ["sh", "-c", recipe("receive")], cwd=tmp_path, env={**os.environ, "PORT": str(settings.port)}
    )
    try:
        # The subscriber says nothing when it is ready: publish until it has one message and ends.
        async with asyncio.timeout(20):
            while receiving.poll() is None:
                await link.publish("jarvis/secretsd/audit/secret/deleted", event.raw)
    finally:
        receiving.kill()
        receiving.wait()
        await link.disconnect()
    received = (tmp_path / "event.json").read_bytes()
    assert received == event.raw
    assert run("verify", tmp_path, received).returncode == 0
