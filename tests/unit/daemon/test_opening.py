from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from secretsd_bus import Chain, rfc3339

from secretsd.audit.linefile import LineFile
from secretsd.audit.log import AuditLog
from secretsd.config import Config
from secretsd.crypto import masterkey
from secretsd.crypto.sensitive import Sensitive
from secretsd.daemon.firststart import create_state
from secretsd.daemon.opening import Opened, open_state
from secretsd.errors import KeyFileError, VaultError
from secretsd.metrics import Metrics
from secretsd.reserve import Reserve
from secretsd.service.commits import Committer, Draft
from secretsd.vault.document import Document, OwedLine, PastEpoch
from secretsd.vault.vault import Vault
from tests.unit.support.clock import START_MS, FakeClock
from tests.unit.support.core import configured
from tests.vectors.event_vectors import key

STATE = ("vault.json", "audit.jsonl")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = configured(tmp_path)
    create_state(config, None)
    return config


def log_of(config: Config, opened: Opened) -> AuditLog:
    chain = Chain(
        log_id=opened.vault.document.audit.log_id,
        node="pi",
        key=opened.key,
        sequence=opened.sequence,
        head=opened.head,
    )
    return AuditLog(LineFile(config.paths.audit_path), chain, FakeClock(), Metrics())


def events(document: Document, generation: int, count: int = 2) -> list[OwedLine]:
    return [
        OwedLine("secret.rotated", f"s{number}", {"epoch": document.epoch, "generation": generation, "n": number})
        for number in range(count)
    ]


async def live(config: Config, commits: int) -> Opened:
    """Start, finish what is owed, make some changes and stop; return the state as it was found."""
    opened = open_state(config)
    log = log_of(config, opened)
    committer = Committer(opened.vault, log, Metrics(), Reserve([]))
    if opened.owed is not None:
        committer.resume(opened.owed)
        await committer.finish()
    for _ in range(commits):
        await committer.commit(lambda document, generation: Draft(events(document, generation), {}, {}))
    await committer.close()
    await log.close()
    return opened


async def committed_without_lines(config: Config, *, lines: int = 0) -> None:
    """Leave what a daemon leaves that is killed between the vault and the (first) lines of a commit."""
    opened = open_state(config)
    document = opened.vault.document
    generation = document.generation + 1
    following = replace(
        document,
        generation=generation,
        audit=replace(document.audit, sequence=opened.sequence, head=opened.head),
        outbox=tuple(events(document, generation)),
    )
    opened.vault.write(opened.vault.encode(following))
    chain = Chain(log_id=document.audit.log_id, node="pi", key=opened.key, sequence=opened.sequence, head=opened.head)
    for line in following.outbox[:lines]:
        event = chain.append(line.type, line.subject, line.data, rfc3339(START_MS))
        LineFile(config.paths.audit_path).append(event.raw + b"\n")


def told(config: Config) -> list[tuple[int, int]]:
    """Generation and number of each event in the log, the chain checked by a daemon's own start."""
    lines = [json.loads(line) for line in config.paths.audit_path.read_bytes().splitlines()]
    return [(line["data"]["generation"], line["data"]["n"]) for line in lines]


def saved(config: Config, name: str) -> Callable[[], None]:
    """Return what brings the file back as it is now: a backup."""
    path = config.paths.vault_path.with_name(name)
    copy = path.with_name(name + ".backup")
    shutil.copy2(path, copy)

    def restore() -> None:
        shutil.copy2(copy, path)

    return restore


def refused(config: Config, match: str) -> None:
    before = {name: config.paths.vault_path.with_name(name).read_bytes() for name in STATE}
    with pytest.raises(VaultError, match=match):
        open_state(config)
    assert {name: config.paths.vault_path.with_name(name).read_bytes() for name in STATE} == before


async def test_after_an_orderly_end_nothing_is_owed(config: Config) -> None:
    await live(config, 3)
    opened = open_state(config)
    assert (opened.owed, opened.sequence, opened.vault.document.generation, opened.note) == (None, 6, 3, None)
    assert opened.last_line_ms == START_MS


async def test_a_first_start_is_noted(tmp_path: Path) -> None:
    assert open_state(configured(tmp_path)).note == "first start"


@pytest.mark.parametrize("lines", [0, 1, 2])
async def test_owed_lines_are_completed_exactly_once(config: Config, lines: int) -> None:
    await live(config, 1)
    await committed_without_lines(config, lines=lines)
    opened = open_state(config)
    missing = () if opened.owed is None else tuple(line.data["n"] for line in opened.owed.outbox)
    assert missing == (0, 1)[lines:]
    for _ in range(3):
        await live(config, 0)
    assert told(config) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    await live(config, 1)
    assert told(config)[4:] == [(3, 0), (3, 1)]


async def test_a_torn_line_of_a_commit_is_set_aside_noted_and_completed(config: Config) -> None:
    await live(config, 1)
    await committed_without_lines(config, lines=1)
    path = config.paths.audit_path
    with path.open("ab") as file:
        file.write(b'{"data":{"torn')
    opened = await live(config, 0)
    assert opened.note is not None
    assert opened.note.startswith("a torn last line of the audit log was set aside in audit.jsonl.torn-")
    assert told(config) == [(1, 0), (1, 1), (2, 0), (2, 1)]


async def test_a_vault_older_than_the_log_is_refused_and_says_by_how_much(config: Config) -> None:
    await live(config, 2)
    restore = saved(config, "vault.json")
    await live(config, 3)
    restore()
    refused(config, r"older than the audit log: it is at generation 2 and the log at 5, 3 commits more")


async def test_a_log_older_than_the_vault_is_refused_and_says_by_how_much(config: Config) -> None:
    await live(config, 2)
    restore = saved(config, "audit.jsonl")
    await live(config, 3)
    restore()
    # The vault's mark is where the log was at its last commit.
    refused(config, r"older than the vault: it ends at line 4 and the vault knows 8, 4 more")


async def test_an_older_log_whose_last_commit_only_is_missing_is_completed(config: Config) -> None:
    await live(config, 2)
    restore = saved(config, "audit.jsonl")
    await live(config, 1)
    restore()
    await live(config, 0)
    assert told(config) == [(generation, n) for generation in (1, 2, 3) for n in (0, 1)]


async def test_the_log_of_another_installation_is_refused(config: Config, tmp_path: Path) -> None:
    await live(config, 1)
    other = tmp_path / "other"
    other.mkdir()
    others = configured(other)
    create_state(others, None)
    await live(others, 5)
    shutil.copy2(other / "audit.jsonl", config.paths.audit_path)
    refused(config, "fails verification .unknown-key.")
    shutil.copy2(other / "vault.json", config.paths.vault_path)
    refused(config, "fails its MAC")


async def test_an_epoch_that_the_vault_does_not_know_is_refused(config: Config) -> None:
    await live(config, 1)
    opened = open_state(config)
    log = log_of(config, opened)
    document = opened.vault.document
    committer = Committer(opened.vault, log, Metrics(), Reserve([]))
    await committer.commit(
        lambda _, generation: Draft(events(replace(document, epoch="unknown"), generation, 1), {}, {})
    )
    await committer.close()
    await log.close()
    refused(config, "older than the audit log: line 3 is of an epoch unknown to it")
    vault = open_vault(config)
    following = replace(vault.document, past_epochs=(PastEpoch("unknown", 2),))
    vault.write(vault.encode(following))
    open_state(config)


def open_vault(config: Config) -> Vault:
    master = masterkey.decode(config.paths.master_key_path.read_bytes(), config.paths.master_key_path, None)
    return Vault.load(config.paths.vault_path, master)


async def test_an_edited_log_is_refused(config: Config) -> None:
    await live(config, 3)
    path = config.paths.audit_path
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"n":1', b'"n":7'))
    refused(config, "bad-signature|is not the one")
    path.write_bytes(whole + b"garbage\n")
    refused(config, "ends with a line that is none of the log")
    path.write_bytes(whole)
    open_state(config)


async def test_a_log_that_can_not_be_read_is_a_refusal_and_no_traceback(config: Config) -> None:
    await live(config, 1)
    path = config.paths.audit_path
    path.rename(path.with_name("audit.jsonl.1.gz"))
    with pytest.raises(VaultError, match=r"audit log|can't read"):
        open_state(config)


def test_another_vaults_master_key_is_refused(config: Config, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    create_state(configured(other), None)
    shutil.copy2(other / "master.key", config.paths.master_key_path)
    refused(config, r"fails its MAC: it was edited, or .*/master\.key is another vault's")


@pytest.mark.parametrize("content", [b"", b"no key", key(1).public.to_pem()])
def test_a_damaged_signing_key_is_refused(config: Config, content: bytes) -> None:
    config.paths.audit_path.with_name("audit.sign.key").write_bytes(content)
    with pytest.raises(KeyFileError, match=r"audit\.sign\.key isn't an Ed25519 key"):
        open_state(config)


def test_a_public_key_that_can_not_be_written_is_a_refusal_and_no_traceback(config: Config) -> None:
    path = config.paths.audit_path.with_name("audit.sign.pub")
    path.unlink()
    path.mkdir()  # as Docker does where a file that isn't there yet is mounted
    with pytest.raises(KeyFileError, match=r"can't write the files of the signing key.*audit\.sign\.pub"):
        open_state(config)


def test_a_pipe_in_the_public_keys_place_is_not_waited_for(config: Config) -> None:
    path = config.paths.audit_path.with_name("audit.sign.pub")
    expected = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    open_state(config)
    assert path.read_bytes() == expected


def test_a_pipe_in_the_place_of_the_keys_of_the_past_is_refused(config: Config) -> None:
    os.mkfifo(config.paths.audit_path.with_name("audit.keys.json"))
    with pytest.raises(KeyFileError, match=r"can't read .*audit\.keys\.json: not a regular file"):
        open_state(config)


def test_a_wrapped_key_is_opened_with_the_passphrase_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path)
    create_state(config, Sensitive(b"correct horse"))
    with pytest.raises(KeyFileError, match="none was given"):
        open_state(config)
    file = tmp_path / "passphrase"
    file.write_bytes(b"correct horse\n")
    monkeypatch.setenv("SECRETSD_PASSPHRASE_FILE", str(file))
    assert open_state(config).vault.document.generation == 0
    file.write_bytes(b"wrong\n")
    with pytest.raises(KeyFileError, match="doesn't open under this passphrase"):
        open_state(config)
