"""A whole core on temporary files: vault, log, policy, service and schedule, with a clock to move."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from secretsd_bus import ZERO_HASH, Chain, Event, KeyRing, SigningKey, VerifyKey, verify_line

from secretsd import config as configuration
from secretsd import files
from secretsd import policy as policies
from secretsd.audit.eventkeys import EventKeyFiles, EventKeys
from secretsd.audit.linefile import LineFile
from secretsd.audit.log import AuditLog
from secretsd.audit.verifier import verify_files
from secretsd.auth import Caller
from secretsd.config import Config
from secretsd.consumers.follower import Follower
from secretsd.crypto import masterkey
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon import opening, passphrase
from secretsd.metrics import Metrics
from secretsd.policy import Policy
from secretsd.reserve import Reserve
from secretsd.service import Core, Service
from secretsd.service.carrier import Carrier
from secretsd.service.commits import Committer, Done
from secretsd.service.gate import Gate
from secretsd.service.scheduler import Scheduler
from secretsd.vault.document import Document
from secretsd.vault.masterfile import MasterKeyFile
from secretsd.vault.vault import Vault, empty_document
from tests.unit.support.clock import FakeClock, Sync, guard

MASTER = Sensitive(b"\x07" * 32)
POLICY = """
clients:
  admin: {allow: ["*"], can: [read, write, rotate, delete, audit, admin]}
  backend: {allow: ["db_*"]}
secrets:
  auto_*: {type: generic, rotation: auto, rotation_period: 30d, grace_period: 2d}
"""


def configured(folder: Path, *, security: str = "", bus: str = "", policy: str = POLICY) -> Config:
    """Write a configuration with all its files in `folder` and return it."""
    (folder / "policy.yaml").write_text(policy)
    file = folder / "config.toml"
    file.write_text(
        f'[server]\nbind_addr = "127.0.0.1:0"\n[paths]\nvault_path = "{folder}/vault.json"\n'
        f'master_key_path = "{folder}/master.key"\naudit_path = "{folder}/audit.jsonl"\n'
        f'[security]\nrbac_policy_path = "{folder}/policy.yaml"\n{security}\n[bus]\nnode = "pi"\n{bus}\n'
    )
    return configuration.load(file, {}, hostname="pi")


class Bench:
    """The parts as `daemon` puts them together, save the bus and HTTP."""

    def __init__(self, folder: Path, *, security: str = "", policy: str = POLICY, again: bool = False) -> None:
        """Make a new vault with its files in `folder`; `again`: start on those that lie there."""
        self.folder = folder
        self.config = configured(folder, security=security, policy=policy)
        self.policy: Policy = policies.load(self.config.security.rbac_policy_path, self.config)
        self.clock = FakeClock()
        self.sync = Sync()
        opened = opening.open_state(self.config) if again else None
        self.key = SigningKey.generate() if opened is None else opened.key
        self.audit_path = self.config.paths.audit_path
        self.file = LineFile(self.audit_path)
        self.metrics = Metrics()
        chain = Chain(log_id="log", node="pi", key=self.key)
        if opened is not None:
            chain.sequence, chain.head = opened.sequence, opened.head
        self.log = AuditLog(self.file, chain, self.clock, self.metrics)
        self.vault = self._made() if opened is None else opened.vault
        self.reserve = Reserve([])
        self.committer = Committer(self.vault, self.log, self.metrics, self.reserve)
        gate = Gate(
            self.config, self.policy, self.log, self.clock, self.metrics, lambda: self.vault.document, self.reserve
        )
        self.core = Core(
            config=self.config,
            policy=self.policy,
            vault=self.vault,
            log=self.log,
            committer=self.committer,
            gate=gate,
            clock=self.clock,
            guard=guard(self.clock, self.sync),
            metrics=self.metrics,
            event_keys=EventKeys(self.key) if opened is None else opened.event_keys,
            key_files=EventKeyFiles.beside(self.audit_path),
            master_file=MasterKeyFile(
                self.config.paths.master_key_path, masterkey.wrap(MASTER, None), provided=passphrase.provided
            )
            if opened is None
            else opened.master_file,
            audit_path=self.audit_path,
            started_at_ms=self.clock.elapsed_ms(),
            reserve=self.reserve,
            follower=Follower(self.log, self.audit_path, self.clock),
        )
        self.service = Service(self.core)
        self.done: list[Done] = []
        self.scheduler = Scheduler(self.core)
        self.core.follower.on_news = self.scheduler.seen
        self.carrier = Carrier(self.core, lambda: 1.0)
        self.service.until_settled = self.carrier.until_settled
        self.committer.on_commit = self._committed
        self.log.on_durable = self.service.written
        if opened is None:
            self.core.key_files.settle(self.core.event_keys)
            files.replace(self.core.master_file.path, masterkey.encode(MASTER, None))
        else:
            self.log.successor = opened.successor
            if opened.owed is not None:
                self.committer.resume(opened.owed)

    def _made(self) -> Vault:
        document = empty_document(log_id="log", head=ZERO_HASH, policy_sha256=self.policy.sha256)
        vault = Vault(self.config.paths.vault_path, MASTER, document)
        vault.write(vault.encode(document))
        return vault

    async def begin_again(self) -> None:
        """Do what a daemon does at its start, on files that lay there: owed lines first, then the key files."""
        if self.committer.unfinished:
            await self.committer.finish()
        self.log.successor = None
        await self.service.tidy_keys()

    def _committed(self, done: Done) -> None:
        self.done.append(done)
        self.scheduler.committed(done)
        self.carrier.committed(done)

    @property
    def document(self) -> Document:
        """The document in force."""
        return self.vault.document

    def stored(self) -> Document:
        """The document on disk, read as a new daemon would."""
        return Vault.load(self.vault.path, MASTER).document

    def caller(self, client: str = "admin") -> Caller:
        return Caller(client=client, auth="token", peer="127.0.0.1", request_id="r1")

    def events(self, kind: str = "", key: VerifyKey | None = None) -> list[Event]:
        """Return the log's events, chain and signatures checked, those of `kind` and what begins like it.

        `key` is the one that the log begins with, where the signing key was rotated.
        """
        if key is None:
            return [event for event in whole_chain(self.key, [self.audit_path]) if event.type.startswith(kind)]
        verify_files([self.audit_path], key)
        ring = self.core.event_keys.ring()
        events = [verify_line(raw, ring) for raw in self.audit_path.read_bytes().splitlines()]
        return [event for event in events if event.type.startswith(kind)]

    async def close(self) -> None:
        await self.carrier.stop(0.1)
        await self.committer.close()
        await self.log.close()


def whole_chain(key: SigningKey, paths: Sequence[Path]) -> list[Event]:
    """Return the events in the files, oldest first; fail where the chain from its very first line is not whole.

    A line that repeats an earlier one byte for byte counts once.
    """
    ring = KeyRing([key.public])
    expected = Chain(log_id="log", node="pi", key=key)
    seen: set[bytes] = set()
    events: list[Event] = []
    for path in paths:
        if not path.exists():
            continue
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert not content or content.endswith(b"\n"), f"{path} ends in a torn line"
        for raw in content.splitlines():
            if raw in seen:
                continue
            seen.add(raw)
            event = verify_line(raw, ring)
            assert (event.sequence, event.prev) == (expected.sequence + 1, expected.head)
            # Ed25519 takes no randomness, so the chain can be made anew from what the lines say.
            assert expected.append(event.type, event.subject, event.data, event.time).raw == raw
            events.append(event)
    return events
