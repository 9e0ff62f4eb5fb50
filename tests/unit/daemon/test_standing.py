from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from secretsd_bus import canonical

from secretsd.daemon.metering import meter
from secretsd.daemon.standing import VaultStanding
from secretsd.model import CreateSecret
from tests.unit.support.clock import DAY_MS
from tests.unit.support.core import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    for name in ("kept_password", "gone_password"):
        await bench.service.create(bench.caller(), CreateSecret(name=name, rotation_period="90d"), idempotency_key=None)
    await bench.service.delete(bench.caller(), "gone_password", idempotency_key=None)
    yield bench
    await bench.close()


async def test_the_bus_is_told_what_is_in_force(bench: Bench) -> None:
    standing = VaultStanding(bench.core, bench.service)
    assert standing.names() == ["kept_password", "gone_password"]
    kept, gone = standing.state("kept_password"), standing.state("gone_password")
    assert kept is not None
    assert gone is not None
    assert (kept["status"], kept["version"], kept["generation"]) == ("active", 1, 1)
    assert (gone["status"], gone["generation"]) == ("deleted", 3)
    assert kept.keys() == gone.keys()
    assert standing.state("never_was") is None
    assert b"ciphertext" not in canonical.encode(dict(kept))


async def test_the_checkpoint_says_where_log_and_vault_are(bench: Bench) -> None:
    standing = VaultStanding(bench.core, bench.service)
    bench.clock.advance(1234)
    assert standing.checkpoint() == {
        "sequence": 3,
        "head": bench.log.head,
        "epoch": bench.document.epoch,
        "generation": 3,
        "uptime_ms": 1234,
    }
    position = standing.position()
    assert (position.epoch, position.generation, position.sequence) == (bench.document.epoch, 3, 3)


async def test_a_disk_that_is_kept_for_changes_by_hand_is_a_trouble(bench: Bench) -> None:
    standing = VaultStanding(bench.core, bench.service)
    assert standing.troubles() == []
    bench.core.reserve.spent = True
    (trouble,) = standing.troubles()
    assert "kept for changes by hand until 8 MiB are free" in trouble.words


async def test_a_rollback_that_the_broker_sees_stops_the_serving(bench: Bench) -> None:
    VaultStanding(bench.core, bench.service).rolled_back("vault.json is older by 2 commits")
    health = bench.service.health()
    assert health.status == "unavailable"
    assert "vault.json is older by 2 commits" in (health.reason or "")
    assert "accept-rollback" in (health.reason or "")


async def test_what_is_measured_when_asked(bench: Bench) -> None:
    meter(bench.service, bench.scheduler, None)
    bench.clock.advance(DAY_MS)
    value = bench.metrics.registry.get_sample_value
    assert value("secretsd_secrets", {"status": "active"}) == 1
    assert value("secretsd_next_expiry_seconds") == 89 * 86_400
    assert value("secretsd_vault_generation") == 3
    assert value("secretsd_clients_without_proof") == len(bench.core.policy.clients)
    assert value("secretsd_audit_sequence") == 3
    assert value("secretsd_clock_in_doubt") == 0
    assert value("secretsd_uptime_seconds") == 86_400
    assert value("secretsd_serving") == 1
    assert value("secretsd_schedule_failing") == 0


async def test_trouble_shows_in_what_is_measured(bench: Bench) -> None:
    meter(bench.service, bench.scheduler, None)
    bench.core.schedule_failure = "no space left"
    bench.core.stopped_serving = "vault.json is older"
    value = bench.metrics.registry.get_sample_value
    assert value("secretsd_serving") == 0
    assert value("secretsd_schedule_failing") == 1


async def test_the_newest_backups_time_is_read_off_its_record(bench: Bench) -> None:
    meter(bench.service, bench.scheduler, None)
    value = bench.metrics.registry.get_sample_value
    assert value("secretsd_backup_timestamp_seconds") == 0
    record = bench.folder / "vault.json.backup"
    record.write_text('{"created_at":"2026-11-23T17:00:00.000Z","file":null}')
    assert value("secretsd_backup_timestamp_seconds") == 1_795_453_200
    record.write_text("{")
    assert value("secretsd_backup_timestamp_seconds") == 0
