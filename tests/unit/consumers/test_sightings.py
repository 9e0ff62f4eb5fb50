from __future__ import annotations

import random
from typing import Any

from secretsd.consumers.sightings import Mark, Sighting, Sightings, client_of, consumer_key


def at(second: int) -> str:
    return f"2026-11-28T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000Z"


def data(client: str, name: str | None, version: int | None, **more: Any) -> dict[str, Any]:
    kid = None if version is None else f"kid-{version}"
    return {"client": client, "name": name, "version": version, "kid": kid, **more}


def test_a_reading_is_kept_by_secret_and_consumer() -> None:
    sightings = Sightings()
    assert sightings.take("secret.read", at(1), data("backend", "db", 3)) == "db"
    assert sightings.take("secret.read", at(2), data("backend", "db", 3, instance="web-1")) == "db"
    assert sightings.of("db") == {
        "backend": Sighting(Mark(3, "kid-3", at(1))),
        "backend/web-1": Sighting(Mark(3, "kid-3", at(2))),
    }
    assert sightings.seen == {"backend": at(1), "backend/web-1": at(2)}
    assert client_of(consumer_key("backend", "web-1")) == "backend"


def test_a_repeated_reading_moves_the_time_and_is_no_news() -> None:
    sightings = Sightings()
    sightings.take("secret.read", at(1), data("backend", "db", 3))
    assert sightings.take("secret.read", at(5), data("backend", "db", 3)) is None
    assert sightings.of("db")["backend"] == Sighting(Mark(3, "kid-3", at(5)))


def test_who_reads_an_earlier_version_on_purpose_keeps_the_current_one() -> None:
    sightings = Sightings()
    sightings.take("secret.read", at(1), data("backend", "db", 3, superseded=False))
    assert sightings.take("secret.read", at(2), data("backend", "db", 2, superseded=True)) is None
    assert sightings.of("db")["backend"].read == Mark(3, "kid-3", at(1))


def test_a_current_version_counts_though_its_number_is_lower_after_an_older_vault_was_accepted() -> None:
    sightings = Sightings()
    sightings.take("secret.read", at(1), data("backend", "db", 9))
    assert sightings.take("secret.read", at(2), data("backend", "db", 7, superseded=False)) == "db"
    assert sightings.of("db")["backend"].read == Mark(7, "kid-7", at(2))


def test_what_was_read_and_what_was_acknowledged_stand_side_by_side() -> None:
    sightings = Sightings()
    sightings.take("secret.acknowledged", at(1), data("backend", "db", 2))
    sightings.take("secret.read", at(2), data("backend", "db", 3))
    assert sightings.of("db")["backend"] == Sighting(Mark(3, "kid-3", at(2)), Mark(2, "kid-2", at(1)))


def test_a_vain_reading_and_a_listing_tell_only_that_somebody_is_there() -> None:
    sightings = Sightings()
    assert sightings.take("secret.read", at(1), data("backend", "db", None)) is None
    assert sightings.take("secret.listed", at(2), data("worker", "db", None)) is None
    assert sightings.take("secret.listed", at(2), data("worker", "db", 3)) is None
    assert sightings.take("access.denied", at(3), data("other", "db", None)) is None
    assert sightings.secrets == {}
    assert sightings.seen == {"backend": at(1), "worker": at(2)}


def test_a_deleted_secret_is_forgotten() -> None:
    sightings = Sightings()
    sightings.take("secret.read", at(1), data("backend", "db", 3))
    assert sightings.take("secret.deleted", at(2), data("admin", "db", 3)) == "db"
    assert sightings.secrets == {}
    assert sightings.take("secret.deleted", at(2), data("admin", "db", 3)) is None


def test_beyond_the_bound_who_was_longest_not_seen_is_forgotten_and_that_is_said() -> None:
    sightings = Sightings(most=100)
    for number in range(250):
        sightings.take("secret.read", at(number), data(f"c{number % 7}", f"s{number}", 1))
    kept = sum(len(found) for found in sightings.secrets.values())
    assert 90 <= kept <= 100
    assert "s249" in sightings.secrets
    assert "s0" not in sightings.secrets
    assert sightings.since == max(at(number) for number in range(250) if f"s{number}" not in sightings.secrets)


def test_the_same_lines_always_come_to_the_same_and_may_be_broken_off_anywhere() -> None:
    draw = random.Random(7)
    kinds = ["secret.read"] * 8 + ["secret.acknowledged", "secret.listed", "secret.deleted"]
    lines = [
        (
            draw.choice(kinds),
            at(number),
            data(
                f"c{draw.randrange(4)}", f"s{draw.randrange(30)}", draw.randrange(1, 5), superseded=draw.random() < 0.3
            ),
        )
        for number in range(2000)
    ]
    whole = Sightings(most=60)
    for line in lines:
        whole.take(*line)
    for _ in range(10):
        cut = draw.randrange(len(lines))
        first = Sightings(most=60)
        for line in lines[:cut]:
            first.take(*line)
        second = Sightings(first.secrets, first.seen, first.since, most=60)
        for line in lines[cut:]:
            second.take(*line)
        assert (second.secrets, second.seen, second.since) == (whole.secrets, whole.seen, whole.since)
