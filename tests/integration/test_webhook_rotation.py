"""The documented receiver of a webhook, with a real daemon: keys from GET /keys, also after a rotation of those."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import OPEN_POLICY, Daemon
from tests.support.recipe import recipe
from tests.support.tls import make_server_certificate
from tests.support.waiting import eventually, free_port

NAME = "router_password"
FIRST = "the first password of the router"


class Receiver:
    """The receiver in a folder of its own; it reads its keys when it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = make_server_certificate(folder)
        shutil.copyfile(files["certfile"], folder / "cert.pem")
        shutil.copyfile(files["keyfile"], folder / "key.pem")
        (folder / "receiver.py").write_text(recipe("receiver", "rotators.md"))
        (folder / "service.password").write_text(FIRST)
        self.ca_file = files["cafile"]
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}/router"

    @property
    def password(self) -> str:
        return (self.folder / "service.password").read_text()

    @contextmanager
    def trusting(self, keys: object) -> Any:
        """Run it with what GET /keys said."""
        (self.folder / "keys.json").write_text(json.dumps(keys))
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "receiver.py"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env={"OWN_URL": self.url, "PORT": str(self.port)},
            )
        try:
            eventually(
                lambda: socket.create_connection(("127.0.0.1", self.port)).close() is None, "the receiver listens"
            )
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path)


@pytest.fixture
def daemon(new_daemon: Callable[..., Daemon], receiver: Receiver) -> Daemon:
    rotator = {"kind": "webhook", "url": receiver.url, "ca_file": str(receiver.ca_file), "retries": 0}
    clients = {**OPEN_POLICY["clients"], "admin": {"allow": ["*"], "can": ["read", "write", "rotate", "admin"]}}
    policy = {**OPEN_POLICY, "clients": clients, "secrets": {NAME: {"type": "password", "rotator": rotator}}}
    daemon = new_daemon(policy=policy).start()
    daemon.api.create(NAME, FIRST)
    return daemon


def test_a_rotation_goes_to_the_receiver_and_a_new_signing_key_has_to_be_fetched(
    daemon: Daemon, receiver: Receiver
) -> None:
    """With the old keys it refuses what the new key signed, and the old value stays."""
    old_keys = daemon.api.get("/keys").ok()
    with receiver.trusting(old_keys):
        (metadata,) = daemon.api.rotate(NAME)
        assert metadata["version"] == 2
        assert daemon.api.value(NAME) == receiver.password != FIRST
        second = receiver.password
        daemon.api.post("/keys/rotate", {"key": "signing"}).ok()
        answer = daemon.api.post("/rotate", {"names": [NAME]})
        assert answer.status == 202
        assert "403" in answer.json()["rotated"][0]["pending"]["failure"]
        assert daemon.api.value(NAME) == receiver.password == second
    with receiver.trusting(daemon.api.get("/keys").ok()):
        (metadata,) = daemon.api.rotate(NAME)
        assert metadata["version"] == 3
        assert daemon.api.value(NAME) == receiver.password != second
    said = daemon.output() + (receiver.folder / "log").read_text() + daemon.audit_path.read_text()
    assert not any(value in said for value in (FIRST, second, receiver.password))
