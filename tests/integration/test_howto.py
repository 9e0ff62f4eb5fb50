"""The how-tos as an operator follows them: each command of each page, and what it shows is what is printed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import COMMANDS, Daemon
from tests.support.host import Host
from tests.support.pages import ROOT, blocks, without_blocks
from tests.support.reader import Reader
from tests.support.recipe import VERIFYING

PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))
ELSEWHERE = {Path(VERIFYING).name}
"""Whose blocks test_verify_by_hand.py and unit/bus/test_recipe.py run: they need events of many kinds."""

TOKENS = {"admin": "0f" * 32, "backend": "1e" * 32}
HASHES = {client: hashlib.sha256(token.encode()).hexdigest() for client, token in TOKENS.items()}
IN_THE_PAGES = {
    "8ccb5d6d80cdb5e701e03fdcd02f21dc4c59b6b3b4f14a94f22c7a2af19930ff": HASHES["admin"],
    "98dd09f27214cdf424792a85d720eb26ede17a58a824a4401265dded543f0a15": HASHES["backend"],
}
POLICY: dict[str, Any] = {
    "clients": {
        "admin": {
            "allow": ["*"],
            "can": ["read", "write", "rotate", "delete", "audit", "admin"],
            "auth": [{"token_sha256": HASHES["admin"]}],
        },
        "backend": {
            "allow": ["postgres_password", "brave_api_key"],
            "auth": [{"token_sha256": HASHES["backend"]}],
        },
    }
}
THERE_BEFORE: dict[str, list[str]] = {
    "add-a-secret.md": [],
    "any-language.md": ["postgres_password"],
    "revoke.md": ["postgres_password", "brave_api_key"],
    "rotate.md": ["postgres_password", "brave_api_key", "session_key"],
    "write-a-policy.md": ["postgres_password", "brave_api_key", "grafana_password", "postgres_root"],
}
# The operator's editor puts the hash of the new token in the old one's place.
EDITOR = f"""#!/bin/sh
sed -i "s/{HASHES["backend"]}/$(tr -d '\\n' < backend.token | sha256sum | cut -d ' ' -f 1)/" "$1"
"""


def prepared(daemon: Daemon, folder: Path, names: list[str]) -> None:
    """Make what was there before the page: secrets that `backend` has read, its token, and a value to be typed in."""
    api = daemon.api.as_("admin", TOKENS["admin"])
    for name in names:
        api.create(name, "from before", type="external" if name == "brave_api_key" else "password")
        if name in POLICY["clients"]["backend"]["allow"]:
            daemon.api.as_("backend", TOKENS["backend"]).get(f"/secret/{name}").ok()
    for name, text in {"brave.txt": "BSA-0123456789", "backend.token": TOKENS["backend"]}.items():
        (folder / name).write_text(f"{text}\n")
        (folder / name).chmod(0o600)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ELSEWHERE], ids=lambda page: page.stem)
def test_a_how_to_works_as_it_stands(
    page: Path, own: Broker, new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    work, private = tmp_path / "work", tmp_path / "private"
    for folder in (work, private):
        folder.mkdir()
    daemon = new_daemon(bus=own.url, policy=POLICY).start().wait_bus()
    prepared(daemon, work, THERE_BEFORE[page.name])
    editor, token = private / "editor", private / "admin.token"
    editor.write_text(EDITOR)
    editor.chmod(0o755)
    token.write_text(TOKENS["admin"])
    token.chmod(0o600)
    replaced = IN_THE_PAGES | {
        "8081": str(daemon.port),
        "1883": str(own.port),
        "/etc/jarvis-secretsd/config.toml": str(daemon.config_path),
        "/etc/jarvis-secretsd/policy.yaml": str(daemon.policy_path),
        "/opt/jarvis": str(daemon.directory),
    }
    with Host(private, daemon, own) as host:
        environment = {
            "PATH": f"{host.shims}:{COMMANDS}:{os.environ['PATH']}",
            "HOME": str(private),
            "LANG": "C.UTF-8",
            "EDITOR": str(editor),
            "JARVIS_SECRETS_URL": f"http://127.0.0.1:{daemon.port}",
            "JARVIS_CLIENT_ID": "admin",
            "JARVIS_CLIENT_TOKEN_FILE": str(token),
        }
        with Reader(work, private, environment, replaced) as reader:
            reader.follow(blocks(page))
    daemon.verified_log()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_how_to_is_short_and_leads_to_the_reference(page: Path) -> None:
    assert len(page.read_text().splitlines()) <= 110
    assert "](../" in without_blocks(page.read_text())


def test_every_block_of_the_others_is_run_by_its_name() -> None:
    named = [block.marks.get("recipe") for page in PAGES if page.name in ELSEWHERE for block in blocks(page)]
    assert named == ["receive", "verify", "topic", "chain"]
