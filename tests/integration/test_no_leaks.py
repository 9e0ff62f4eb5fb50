"""Planted values and tokens are searched for everywhere that is not meant to hold them."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.waiting import eventually


@dataclass
class Story:
    """What was planted, and every place where it must not be."""

    values: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    places: dict[str, bytes] = field(default_factory=dict)

    def found(self, needle: str) -> list[str]:
        """The places that hold `needle` as it is, in base64, hex, JSON, percent-encoded, or hashed."""
        raw = needle.encode()
        digest = hashlib.sha256(raw)
        disguises = {
            "plain": raw,
            "base64": base64.b64encode(raw).rstrip(b"=")[:-1],
            "base64url": base64.urlsafe_b64encode(raw).rstrip(b"=")[:-1],
            "hex": raw.hex().encode(),
            "JSON": json.dumps(needle).encode()[1:-1],
            "percent": quote(needle, safe="").encode(),
            "sha256": digest.hexdigest().encode(),
            "sha256 base64url": base64.urlsafe_b64encode(digest.digest()).rstrip(b"="),
        }
        return [
            f"{place} ({how})"
            for place, content in self.places.items()
            for how, form in disguises.items()
            if form in content
        ]


def planted() -> str:
    return f"leak/{secrets.token_urlsafe(24)}+ż"


@pytest.fixture(scope="module")
def story(broker: Broker, module_prefix: str) -> Story:
    """One daemon's whole day at debug level, with every planted thing used rightly and wrongly."""
    told = Story()
    token = told.tokens["right token"] = secrets.token_urlsafe(32)
    policy = {
        "default_deny": True,
        "clients": {
            "admin": {"allow": ["*"]},
            "tina": {"allow": ["*"], "auth": [{"token_sha256": hashlib.sha256(token.encode()).hexdigest()}]},
        },
        "secrets": {"brief_*": {"type": "generic", "grace_period": "1s"}},
    }
    config = {"logging": {"level": "debug"}}
    daemon = Daemon(bus=broker.url, prefix=module_prefix, policy=policy, config=config, env={"RUST_LOG": "debug"})
    with daemon, daemon.tap() as tap:
        api = daemon.api
        values = told.values
        for key, name in (
            ("created", "a"),
            ("to be updated", "b"),
            ("to be rotated", "c"),
            ("to be deleted", "d"),
        ):
            values[key] = planted()
            api.create(name, values[key], type="generic")
        values["bytes"] = planted()
        api.create("bytes", base64.b64encode(values["bytes"].encode()).decode(), encoding="base64")
        values["update"], values["rotation"] = planted(), planted()
        api.update("b", values["update"])
        api.rotate("c", values={"c": values["rotation"]})
        api.delete("/secret/d").ok(204)
        api.create("e")
        values["generated"] = api.value("e")
        api.create("jwt_signing_key")
        values["signing key"] = api.value("jwt_signing_key").splitlines()[1]
        api.create("brief_x", values.setdefault("retired", planted()))
        api.rotate("brief_x")
        api.as_("tina", token).secret("a")
        api.get("/secrets").ok()
        # Refused requests that hold what they should not show again.
        for key, body in (
            ("in a conflict", {"name": "a"}), ("in a bad request", {"name": "../a"}),
            ("beside an unknown member", {"name": "f", "colour": 1}), ("of a wrong type", {"name": "f", "type": "?"}),
        ):  # fmt: skip
            values[key] = planted()
            assert api.post("/secret", {**body, "value": values[key]}).status >= 400
        values["in half a body"] = planted()
        api.call("POST", "/secret", raw=f'{{"name":"f","value":"{values["in half a body"]}'.encode())
        values["as a name"] = secrets.token_urlsafe(24)
        api.post("/secret", {"name": values["as a name"] + "/", "value": "v"})
        values["as a member"] = secrets.token_urlsafe(24)
        api.post("/secret", {"name": "f", "value": "v", values["as a member"]: "v"})
        told.tokens |= {key: secrets.token_urlsafe(32) for key in ("wrong", "header", "path", "query", "basic", "name")}
        api.as_("tina", told.tokens["wrong"]).get("/secret/a")
        api.as_(told.tokens["header"]).get("/secret/a")
        api.get(f"/secret/{told.tokens['path']}")
        api.get(f"/{told.tokens['path']}")
        api.as_("tina").get(f"/secret/{told.tokens['path']}")
        api.get(f"/secret/a?kid={told.tokens['query']}")
        api.get(f"/secrets?token={told.tokens['query']}")
        api.as_("tina").get("/secret/a", {"Authorization": f"Basic {told.tokens['basic']}"})
        api.post("/rotate", {"names": [told.tokens["name"]]})
        daemon.wait_bus()
        eventually(lambda: daemon.events("secret.retired"), "brief_x is retired")
        last = api.get("/secrets").headers["X-Request-Id"]
        tap.wait_event(lambda event: event.data.get("request_id") == last, "the bus has caught up")
        assert daemon.process is not None
        process = Path(f"/proc/{daemon.process.pid}")
        told.places["metrics"] = api.get("/metrics").body
        told.places["health"] = api.get("/healthz").body
        for name in ("cmdline", "environ"):
            try:
                told.places[name] = (process / name).read_bytes()
            except PermissionError:
                told.places[name] = b"not readable, even by its own user"
        daemon.terminate()
        told.places["bus"] = b"\n".join(heard.topic.encode() + b" " + heard.payload for heard in tap.heard)
        for path in (daemon.vault_path, daemon.audit_path, daemon.stdout_path, daemon.stderr_path):
            told.places[path.name] = path.read_bytes()
    return told


EVERYWHERE = (
    "vault.json",
    "audit.jsonl",
    "stdout",
    "stderr",
    "metrics",
    "health",
    "cmdline",
    "environ",
    "bus",
)


def test_every_place_was_looked_at(story: Story) -> None:
    assert set(EVERYWHERE) <= set(story.places)
    assert all(story.places[place] for place in ("vault.json", "audit.jsonl", "metrics", "health", "cmdline", "bus"))
    assert story.places["stdout"] + story.places["stderr"]


def test_no_value_is_anywhere(story: Story) -> None:
    assert {what: story.found(value) for what, value in story.values.items() if story.found(value)} == {}


def test_no_token_is_anywhere(story: Story) -> None:
    assert {what: story.found(token) for what, token in story.tokens.items() if story.found(token)} == {}
