"""The recipe of docs/events.md: a message from mosquitto_sub verifies with jq and openssl alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import NODE, Daemon

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "events.md"


def recipe() -> str:
    """Return the shell block of the document that calls openssl."""
    if not DOCUMENT.exists():
        pytest.skip("docs/events.md is not written yet")
    blocks: list[str] = re.findall(r"```(?:sh|bash)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return next(block for block in blocks if "openssl pkeyutl" in block)


@pytest.mark.parametrize("altered", [False, True], ids=["as it came", "altered"])
def test_a_message_verifies_with_jq_and_openssl_alone(
    broker: Broker, prefix: str, tmp_path: Path, new_daemon: Callable[..., Daemon], altered: bool
) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    message = subprocess.run(
        ["mosquitto_sub", "-p", str(broker.port), "-V", "mqttv5", "-q", "1", "-C", "1", "-W", "20", "-N",
         "-t", f"{prefix}/checkpoint/{NODE}"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    (tmp_path / "event.json").write_bytes(
        message.replace(b'"interval_secs":1', b'"interval_secs":2') if altered else message
    )
    shutil.copyfile(daemon.public_key_path, tmp_path / "audit.sign.pub")
    run = subprocess.run(["bash", "-ec", recipe()], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode == 0) is not altered, run.stdout + run.stderr
    assert ("Signature Verified Successfully" in run.stdout) is not altered
