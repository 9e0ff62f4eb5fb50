"""What one screen holds: the daemon's health and numbers, and what a client may see beside. Gathering, no showing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from secretsd_client import Response

from secretsd.cli.chain import Chain
from secretsd.cli.errors import Failed
from secretsd.cli.measured import Measured, parse
from secretsd.cli.session import Session, decoded
from secretsd.config import Config, load
from secretsd.errors import SecretsdError
from secretsd.model import BusInfo, Health, Metadata, SecretList
from secretsd.policy import load as load_policy


@dataclass(frozen=True)
class View:
    """What a client sees beside the health."""

    secrets: list[Metadata]
    position: str
    bus: BusInfo | None

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return {
            "secrets": msgspec.to_builtins(self.secrets),
            "vault_generation": self.position,
            "bus": msgspec.to_builtins(self.bus),
        }


@dataclass(frozen=True)
class Overview:
    """Everything that is shown. `view` is None without a client; `refused` says why not."""

    url: str
    answer: Response
    health: Health
    measured: Measured | None
    unproven: tuple[str, ...]
    """The clients without a proof, as far as we may know their names."""
    view: View | None
    refused: Failed | None
    chain: Chain | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return {
            "url": self.url,
            "health": self.answer.json(),
            "measured": None if self.measured is None else asdict(self.measured),
            "clients_without_proof": list(self.unproven),
            **({} if self.chain is None else {"chain": self.chain.as_json()}),
            **({} if self.view is None else self.view.as_json()),
        }


class Looking:
    """Looks again and again. Secrets are listed, which leaves a line in the log, only when the vault changed."""

    def __init__(self, session: Session, config: Path) -> None:
        self._session = session
        self._config = config
        self._view: View | None = None
        self._may_see = True
        self._policy_at: int | None = None
        self._unproven: tuple[str, ...] = ()

    def look(self) -> Overview:
        """Return what there is to see now. Raises Unreachable, Failed for what isn't the daemon."""
        answer = self._session.health()
        health = decoded(answer, Health)
        measured = self._measure()
        refused: Failed | None = None
        if health.status == "ok" and self._may_see:
            try:
                if self._view is None or self._session.position() != self._view.position:
                    self._view = _view(self._session)
            except Failed as failed:
                if failed.exit_code != Failed.exit_code:
                    raise
                # Who was refused once would be refused again, each time with a line in the audit log.
                self._view, self._may_see, refused = None, False, failed
        return Overview(self._session.url, answer, health, measured, self._names(measured), self._view, refused)

    def _measure(self) -> Measured | None:
        try:
            return parse(self._session.get("/metrics").body.decode())
        except (Failed, ValueError) as error:
            if isinstance(error, Failed) and error.exit_code != Failed.exit_code:
                raise
            return None

    def _names(self, measured: Measured | None) -> tuple[str, ...]:
        """Return who has no proof by the policy's file, where we may read it and it is the one in force."""
        count = None if measured is None else measured.clients_without_proof
        if count != self._policy_at:
            self._policy_at, self._unproven = count, ()
            if count:
                names = _unproven(self._config, self._session.url)
                self._unproven = names if len(names) == count else ()
        return self._unproven


def _unproven(path: Path, url: str) -> tuple[str, ...]:
    """Return the clients without a proof in the policy of the daemon at `url`, none where the files are another's."""
    try:
        config = load(path)
        return load_policy(config.security.rbac_policy_path, config).unproven if _serves_at(config, url) else ()
    except (SecretsdError, OSError):
        return ()


def _serves_at(config: Config, url: str) -> bool:
    server, asked = config.server, urlsplit(url)
    if asked.scheme == "unix":
        return server.allow_unix_socket and asked.path == str(server.unix_socket_path)
    return asked.port == server.bind_addr.port and asked.hostname in {server.bind_addr.host, "localhost"}


def _view(session: Session) -> View:
    listed = session.get("/secrets")
    try:
        bus = decoded(session.get("/bus"), BusInfo)
    except Failed as failed:
        if failed.slug != "not-found":
            raise
        bus = None
    return View(decoded(listed, SecretList).secrets, listed.headers.get("Vault-Generation", ""), bus)
