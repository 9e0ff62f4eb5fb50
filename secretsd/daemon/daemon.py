"""Puts the parts together, and takes them apart again in order."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import signal
from collections.abc import Iterable, Sequence
from typing import Any, Final

from secretsd_bus import Chain, Event
from secretsd_bus.payloads import DaemonLife, PolicyChanged

from secretsd import api, files, policy
from secretsd.audit.eventkeys import EventKeyFiles
from secretsd.audit.linefile import LineFile
from secretsd.audit.log import AuditLog, Entry
from secretsd.clock import ClockGuard, SystemClock, kernel_synchronised
from secretsd.config import Config
from secretsd.consumers.follower import Follower
from secretsd.daemon import modes, notify
from secretsd.daemon.firststart import StateFiles
from secretsd.daemon.metering import meter
from secretsd.daemon.opening import Opened
from secretsd.daemon.standing import VaultStanding
from secretsd.errors import AuditWriteError, ListenError, PolicyError, Problem, StartupError
from secretsd.metrics import Metrics
from secretsd.outbox.publisher import Publisher
from secretsd.policy import Policy
from secretsd.reserve import Reserve
from secretsd.service import Core, Service
from secretsd.service.carrier import Carrier
from secretsd.service.changes import Changes
from secretsd.service.commits import Committer, Done, Draft
from secretsd.service.gate import Gate
from secretsd.service.reads import VERSION
from secretsd.service.recovery import recover
from secretsd.service.scheduler import Scheduler
from secretsd.vault.document import Document, OwedLine

log = logging.getLogger(__name__)

# Together less than the ten seconds that `docker stop` waits.
DRAIN_SECONDS: Final = 4.0
PUBLISH_SECONDS: Final = 4.0


class Daemon:
    """One running secretsd."""

    def __init__(self, config: Config, rules: Policy, opened: Opened, listeners: api.Listeners) -> None:
        self._config = config
        self._opened = opened
        self._listeners = listeners
        self._server: api.Server | None = None
        self._next_policy: Policy | None = None
        clock = SystemClock()
        metrics = Metrics()
        state = StateFiles(config)
        document = opened.vault.document
        chain = Chain(
            log_id=document.audit.log_id,
            node=config.bus.node,
            key=opened.key,
            sequence=opened.sequence,
            head=opened.head,
        )
        reserve = Reserve([state.vault.parent, state.audit.parent])
        if not reserve.take() and not reserve.spent:
            log.warning("too little disk is free to keep a reserve: with a full disk nothing could be changed by hand")
        audit = AuditLog(LineFile(state.audit), chain, clock, metrics)
        audit.successor = opened.successor
        audit.changes_only = lambda: reserve.spent
        committer = Committer(opened.vault, audit, metrics, reserve)
        self._core = Core(
            config=config,
            policy=rules,
            vault=opened.vault,
            log=audit,
            committer=committer,
            gate=Gate(config, rules, audit, clock, metrics, lambda: opened.vault.document, reserve),
            clock=clock,
            guard=ClockGuard(clock, kernel_synchronised),
            metrics=metrics,
            event_keys=opened.event_keys,
            key_files=EventKeyFiles.beside(state.audit),
            master_file=opened.master_file,
            audit_path=state.audit,
            started_at_ms=clock.elapsed_ms(),
            reserve=reserve,
            follower=Follower(audit, state.audit, clock),
        )
        self._service = Service(self._core)
        self._scheduler = Scheduler(self._core)
        self._core.follower.on_news = self._scheduler.seen
        self._carrier = Carrier(self._core)
        self._service.until_settled = self._carrier.until_settled
        self._publisher: Publisher | None = None
        if config.bus.enabled:
            self._publisher = Publisher(
                config,
                audit,
                opened.event_keys,
                VaultStanding(self._core, self._service),
                clock,
                metrics,
                state.audit,
                state.cursor,
                VERSION,
            )
            self._core.bus = self._publisher
            self._service.on_signing_key = self._publisher.signing_key_rotated
        committer.on_commit = self._committed
        committer.admit = self._core.serving
        audit.on_durable = self._written
        meter(self._service, self._scheduler, self._publisher)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises StartupError when it can't begin."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        reload = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        await self._begin()
        # What is there now stays: looking all of it through again would stop every request for 50 ms now and then.
        gc.freeze()
        reloads = loop.create_task(self._reload_when(reload))
        watchdog = loop.create_task(_feed_watchdog())
        recovery = loop.create_task(recover(self._core))
        assert self._server is not None  # noqa: S101 — _begin made it
        log.info("secretsd %s serves %s, %d secrets", VERSION, self._server.url, len(self._core.document.secrets))
        notify.ready(f"Serving {self._server.url}")
        await stopping.wait()
        reloads.cancel()
        watchdog.cancel()
        recovery.cancel()
        await self._end()

    async def _begin(self) -> None:
        core, opened = self._core, self._opened
        if opened.owed is not None:
            core.committer.resume(opened.owed)
        try:
            try:
                await self._say_started()
            except (AuditWriteError, Problem):
                # On a full disk an operator can act only if the daemon runs.
                if not core.reserve.give_up():
                    raise
                await self._say_started()
            self._core.log.successor = None
            await self._service.tidy_keys()
            await self._follow_policy()
        except (AuditWriteError, Problem) as error:
            raise StartupError(f"nothing can be written, so nothing can be served: {error}") from error
        if opened.last_line_ms is not None:
            core.guard.compare(opened.last_line_ms)
        self._warn(self._config.warnings)
        self._warn(modes.warnings(StateFiles(self._config)))
        self._warn(self._about_policy(core.policy))
        core.follower.start()
        self._scheduler.start()
        self._carrier.start()
        if self._publisher is not None:
            self._publisher.start()
        self._server = await api.start(self._service, self._config, sockets=self._listeners)

    def _about_policy(self, rules: Policy) -> list[str]:
        return [*rules.warnings, *policy.ended_proofs(rules, self._core.clock.now_ms())]

    def _warn(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            log.warning("%s", warning)

    async def _say_started(self) -> None:
        """Write the lines that are owed, and then that the daemon is here."""
        if self._core.committer.unfinished:
            await self._core.committer.finish()
        await self._core.log.append(Entry("daemon.started", None, self._about(self._opened.note)))

    async def _end(self) -> None:
        """Answer what was asked, publish what is owed for a bounded time, sign off."""
        notify.notify("STOPPING=1")
        core = self._core
        # Side by side: what the other end has taken becomes current, and who waits for that is answered.
        carried = asyncio.get_running_loop().create_task(self._carrier.stop(DRAIN_SECONDS))
        if self._server is not None:
            await self._server.drain(DRAIN_SECONDS)
        await carried
        await self._scheduler.stop()
        await core.committer.close()
        try:
            await core.gate.flush()
            await core.log.append(Entry("daemon.stopped", None, self._about(None)))
        except AuditWriteError as error:
            log.error("stopping without a last audit line: %s", error)  # noqa: TRY400
        await core.follower.stop()
        if self._publisher is not None:
            await self._publisher.stop(PUBLISH_SECONDS)
        await core.log.close()
        log.info("secretsd stopped")

    async def _follow_policy(self) -> None:
        """Commit the policy found at start where it isn't the one that the vault was under."""
        core = self._core
        changes = Changes(core.vault, core.policy, core.config)
        document = core.document
        draft = changes.policy_changed(
            document, document.generation, self._policy_event(document, 0, core.policy, None)
        )
        if core.policy.sha256 == document.policy.sha256 and not draft.secrets:
            return
        await self._adopt(core.policy, "changed while the daemon was down")

    async def _adopt(self, rules: Policy, reason: str) -> None:
        core = self._core

        def build(document: Document, generation: int) -> Draft:
            self._next_policy = rules
            changes = Changes(core.vault, rules, core.config)
            return changes.policy_changed(document, generation, self._policy_event(document, generation, rules, reason))

        await core.committer.commit(build)

    def _policy_event(self, document: Document, generation: int, rules: Policy, reason: str | None) -> OwedLine:
        changed = PolicyChanged(sha256=rules.sha256, reason=reason, epoch=document.epoch, generation=generation)
        return OwedLine("policy.reloaded", None, changed.data())

    def _committed(self, done: Done) -> None:
        if self._next_policy is not None and done.document.policy.sha256 == self._next_policy.sha256:
            self._core.policy = self._core.gate.policy = self._next_policy
            self._next_policy = None
        self._service.committed(done)
        self._scheduler.committed(done)
        self._carrier.committed(done)
        if self._publisher is not None and (done.events or done.resealed):
            # A step of a rotation has no events, and changes nothing that was published.
            self._publisher.committed(done.names)

    def _written(self, events: Sequence[Event]) -> None:
        self._service.written(events)
        if self._publisher is not None:
            self._publisher.written(events)

    async def _reload_when(self, asked: asyncio.Event) -> None:
        while True:
            await asked.wait()
            asked.clear()
            notify.reloading()
            notify.ready(await self._reload())

    async def _reload(self) -> str:
        """Take up policy, log and certificates as they are now; a bad policy is refused whole and the old one stays.

        Returns what came of it, for the service manager's status.
        """
        core = self._core
        await core.log.reopen()
        certificates_taken = await self._reload_certificates()
        if core.stopped_serving is not None:
            log.error("reload: not done, since the vault is not served: %s", core.stopped_serving)
            return "Not reloaded: the vault is not served, see the log"
        try:
            # In a thread, since a large policy takes a second; it brings its check of the exposure with it.
            rules = await asyncio.to_thread(policy.load, self._config.security.rbac_policy_path, self._config)
            if self._server is not None:
                self._server.bind_own(rules.socket_owners)
        except (PolicyError, ListenError) as error:
            log.error("reload: the policy is refused and the old one stays: %s", error)  # noqa: TRY400
            await self._reject()
            return "Reload refused, the old policy stays: see the log"
        said = "Reloaded"
        try:
            await self._adopt(rules, "reload")
            if self._server is not None:
                await self._server.keep_own(rules.socket_owners)
            self._warn(self._about_policy(rules))
            log.info("reload: policy in force, generation %d", core.document.generation)
        except Problem as problem:
            log.error("reload: %s", problem.detail)  # noqa: TRY400
            said = "Reload not complete, the old policy stays: see the log"
        try:
            await self._service.tidy_keys()
        except Problem as problem:
            log.error("reload: %s", problem.detail)  # noqa: TRY400
            said = "Reload not complete, an unfinished change of a key stays so: see the log"
        return said if certificates_taken else "Reload not complete, the old certificates stay: see the log"

    async def _reload_certificates(self) -> bool:
        """Take up the certificates, whatever becomes of the policy; bad ones are refused and the old ones stay.

        Returns whether they were taken up; True where there are none.
        """
        if self._server is None:
            return True
        try:
            await self._server.reload_certificates()
        except ListenError as error:
            log.error("reload: the certificates are refused and the old ones stay: %s", error)  # noqa: TRY400
            return False
        return True

    async def _reject(self) -> None:
        document = self._core.document
        path = self._config.policy_file
        try:
            sha256 = hashlib.sha256(await asyncio.to_thread(files.read_regular, path)).hexdigest()
        except OSError:
            sha256 = None
        rejected = PolicyChanged(
            sha256=sha256,
            # The parser's words can quote the file; the log has them, the bus gets only that it was refused.
            reason="the policy file was refused, see the daemon's log",
            epoch=document.epoch,
            generation=document.generation,
        )
        try:
            await self._core.log.append(Entry("policy.rejected", None, rejected.data()))
        except AuditWriteError as failure:
            log.error("reload: %s", failure)  # noqa: TRY400

    def _about(self, note: str | None) -> dict[str, Any]:
        document = self._core.document
        return DaemonLife(
            version=VERSION,
            session=self._core.bus.session,
            epoch=document.epoch,
            generation=document.generation,
            note=note,
        ).data()


async def _feed_watchdog() -> None:
    seconds = notify.watchdog_seconds()
    while seconds is not None:
        notify.notify("WATCHDOG=1")
        await asyncio.sleep(seconds)
