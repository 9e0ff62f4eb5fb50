"""The recipes of docs/howto/verify-a-message.md: a message from mosquitto_sub verifies with jq and openssl alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.recipe import recipe
from tests.support.waiting import eventually


@pytest.fixture
def received(tmp_path: Path, new_daemon: Callable[..., Daemon]) -> Iterator[Path]:
    """A folder that holds event.json, received as the document says, and the public key."""
    broker = Broker().start()
    daemon = new_daemon(bus=broker.url).start().wait_bus()
    shutil.copyfile(daemon.public_key_path, tmp_path / "audit.sign.pub")
    environment = os.environ | {"PORT": str(broker.port)}
    with subprocess.Popen(["bash", "-ec", recipe("receive")], cwd=tmp_path, env=environment) as receiving:

        def heard() -> bool:
            daemon.api.get("/secrets").ok()
            return receiving.poll() is not None

        eventually(heard, "mosquitto_sub hears of an access")
    assert receiving.returncode == 0
    yield tmp_path
    broker.close()


def verify(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", recipe("verify")], cwd=folder, capture_output=True, text=True, check=False)


def test_a_message_verifies_with_jq_and_openssl_alone(received: Path) -> None:
    done = verify(received)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Signature Verified Successfully" in done.stdout


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"client":"admin"', b'"client":"admim"'), (b'"action":', b'"action" :')],
    ids=["another client", "not canonical"],
)
def test_an_altered_message_does_not(received: Path, before: bytes, after: bytes) -> None:
    event = received / "event.json"
    content = event.read_bytes()
    assert before in content
    event.write_bytes(content.replace(before, after))
    done = verify(received)
    assert done.returncode != 0
    assert "Signature Verified Successfully" not in done.stdout
