"""While a rollback stands, nothing is written: also a reload waits for `secretsctl vault accept-rollback`."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.waiting import eventually


def test_a_reload_commits_nothing_while_the_vault_is_not_served(
    broker: Broker, prefix: str, new_daemon: Callable[..., Daemon]
) -> None:
    daemon = new_daemon(bus=broker.url, prefix=prefix).start().wait_bus()
    daemon.api.create("kept", type="generic")
    daemon.terminate()
    older = daemon.directory.with_name(daemon.directory.name + ".older")
    shutil.copytree(daemon.directory, older)
    daemon.start().wait_bus()
    daemon.api.rotate("kept")
    daemon.terminate()
    for path in (daemon.vault_path, daemon.audit_path):
        shutil.copy2(older / path.relative_to(daemon.directory), path)

    daemon.spawn()
    eventually(lambda: "Rollback" in str(daemon.api.health().get("reason")), "the broker's checkpoint is seen")
    vault, log = daemon.vault_path.read_bytes(), daemon.audit_path.read_bytes()
    daemon.reload()
    eventually(lambda: "reload: not done" in daemon.output(), "the reload is refused")
    daemon.api.get("/secret/kept").refused(503, "vault-unavailable")
    assert (daemon.vault_path.read_bytes(), daemon.audit_path.read_bytes()) == (vault, log)
