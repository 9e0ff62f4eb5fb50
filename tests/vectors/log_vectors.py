"""Logs in several files as rotation leaves them: whole ones, and broken ones, each for one reason.

A file whose name ends in `.gz` stands here unpacked: who reads a vector packs it, since packers differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from secretsd_bus import ZERO_HASH, Chain, Event, key_rotated, line_hash

from tests.vectors.event_vectors import FOREIGN, LOG_ID, NEXT, NODE, TIME, TRUSTED, access_data

Files = dict[str, Sequence[Event | bytes]]

ACTIVE: Final = "audit.jsonl"


def build() -> dict[str, Any]:
    return {"whole": whole(), "broken": broken()}


def chain(**changes: Any) -> Chain:
    members: dict[str, Any] = {"log_id": LOG_ID, "node": NODE, "key": TRUSTED}
    return Chain(**members | changes)


def lines(count: int, log: Chain | None = None) -> list[Event]:
    log = log or chain()
    return [
        log.append("secret.read", "postgres_password", access_data(request_id=f"r{number}"), TIME)
        for number in range(count)
    ]


def raw(line: Event | bytes) -> bytes:
    return line.raw if isinstance(line, Event) else line


def content(part: Sequence[Event | bytes]) -> str:
    return b"".join(raw(line) + b"\n" for line in part).decode()


def whole() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []

    def case(title: str, comment: str, files: Files, log: Sequence[Event], **more: Any) -> None:
        cases.append(
            {
                "name": title,
                "comment": comment,
                "files": {name: content(part) for name, part in files.items()},
                "sequences": [event.sequence for event in log],
                "head": line_hash(log[-1].raw) if log else None,
            }
            | more
        )

    log = lines(8)
    case("one-file", "nothing was rotated yet", {ACTIVE: log}, log)
    case("empty", "a log without a line", {ACTIVE: []}, [])
    case("numbered", "logrotate's numbers", {ACTIVE: log[5:], "audit.jsonl.1": log[2:5], "audit.jsonl.2": log[:2]}, log)
    case(
        "compressed",
        "older files compressed, the newest of them not yet",
        {ACTIVE: log[6:], "audit.jsonl.1": log[4:6], "audit.jsonl.2.gz": log[2:4], "audit.jsonl.3.gz": log[:2]},
        log,
    )
    case(
        "dated",
        "logrotate's dates, two on one day",
        {
            ACTIVE: log[5:],
            "audit.jsonl-20261123-1795453200": log[3:5],
            "audit.jsonl-20261123": log[1:3],
            "audit.jsonl-20261122.gz": log[:1],
        },
        log,
    )
    case("nothing-new", "rotated and nothing written since", {ACTIVE: [], "audit.jsonl.1": log}, log)
    case("active-missing", "rotated and not created anew", {"audit.jsonl.1": log[4:], "audit.jsonl.2": log[:4]}, log)
    case(
        "only-compressed",
        "rotated and compressed at once",
        {"audit.jsonl.1.gz": log[4:], "audit.jsonl.2.gz": log[:4]},
        log,
    )
    case(
        "repeated-batch",
        "moved under the writer: the batch 4 to 6 stands in both files",
        {ACTIVE: log[3:], "audit.jsonl.1": log[:6]},
        log,
    )
    case(
        "repeated-whole",
        "moved while the first batch was written: both begin alike",
        {ACTIVE: log, "audit.jsonl.1": log[:3]},
        log,
    )
    case(
        "beginning-gone",
        "older files were removed by rotation",
        {ACTIVE: log[5:], "audit.jsonl.1": log[3:5]},
        log[3:],
    )
    turned = chain()
    before = [*lines(2, turned), turned.append("audit.key_rotated", None, key_rotated(NEXT), TIME)]
    after = lines(3, chain(key=NEXT, sequence=turned.sequence, head=turned.head))
    case(
        "key-rotated",
        "the signing key changes where the file ends",
        {ACTIVE: after, "audit.jsonl.1": before},
        [*before, *after],
    )
    return cases


def broken() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []

    def case(title: str, comment: str, files: Files, at: tuple[str, int], says: str) -> None:
        file, line = at
        cases.append(
            {
                "name": title,
                "comment": comment,
                "files": {name: content(part) for name, part in files.items()},
                "file": file,
                "line": line,
                "says": says,
            }
        )

    log = lines(8)
    old = "audit.jsonl.1"
    altered = log[1].raw.replace(b'"outcome":"ok"', b'"outcome":"no"')
    case("altered", "one word of one line", {ACTIVE: [log[0], altered, *log[2:]]}, (ACTIVE, 2), "bad-signature")
    case(
        "altered-in-old",
        "the same in a compressed file",
        {ACTIVE: log[4:], f"{old}.gz": [log[0], altered, *log[2:4]]},
        (f"{old}.gz", 2),
        "bad-signature",
    )
    case("line-missing", "line 3 was taken out", {ACTIVE: [*log[:2], *log[3:]]}, (ACTIVE, 3), "1 line is missing")
    case(
        "file-missing",
        "the file between is gone",
        {ACTIVE: log[6:], "audit.jsonl.2.gz": log[:3]},
        (ACTIVE, 1),
        "3 lines are missing",
    )
    case("swapped", "two lines changed places", {ACTIVE: [log[1], log[0], *log[2:]]}, (ACTIVE, 2), "second time")
    case("garbage", "a line that is none", {ACTIVE: [*log[:3], b"garbage", *log[3:]]}, (ACTIVE, 4), "not-json")
    case("garbage-at-the-end", "a whole line that is none", {ACTIVE: [*log, b"garbage"]}, (ACTIVE, 9), "not-json")
    case("empty-line", "an empty line", {ACTIVE: [*log[:3], b"", *log[3:]]}, (ACTIVE, 4), "not-json")
    case(
        "other-spelling",
        "a space more",
        {ACTIVE: [log[0].raw.replace(b'"version":2', b'"version": 2'), *log[1:]]},
        (ACTIVE, 1),
        "not-canonical",
    )
    case(
        "stranger",
        "a line signed by another key",
        {ACTIVE: [*log[:2], *lines(1, chain(key=FOREIGN, sequence=2, head=line_hash(log[1].raw)))]},
        (ACTIVE, 3),
        "unknown-key",
    )
    common = chain()
    start = lines(3, common)
    fork = common.copy()
    fork.append("secret.read", None, access_data(request_id="fork"), TIME)
    forked = lines(1, fork)
    case(
        "fork",
        "a rightly signed line of another continuation",
        {ACTIVE: [*lines(1, common), *forked], old: start},
        (ACTIVE, 2),
        "prev is not the hash",
    )
    case(
        "twice",
        "one sequence, rightly signed, with two contents",
        {
            ACTIVE: log[2:],
            old: [*log[:2], chain_at(log, 2).append("secret.read", None, access_data(name="other"), TIME)],
        },
        (ACTIVE, 1),
        "second time",
    )
    case(
        "not-the-first",
        "the first line claims to follow another one",
        {ACTIVE: lines(2, chain(head=line_hash(b"another")))},
        (ACTIVE, 1),
        "first line",
    )
    case(
        "begins-in-the-middle",
        "line 5 claims to be the first",
        {ACTIVE: lines(2, chain(sequence=4, head=ZERO_HASH))},
        (ACTIVE, 1),
        "first line",
    )
    return cases


def chain_at(log: Sequence[Event], sequence: int) -> Chain:
    """A chain that continues `log` after the line `sequence`."""
    return chain(sequence=sequence, head=line_hash(log[sequence - 1].raw))
