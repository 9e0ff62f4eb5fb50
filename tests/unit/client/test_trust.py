"""Which keys the client believes (docs/client.md, rule 7)."""

from __future__ import annotations

import pytest
from secretsd_bus import Chain, Event, Refused, SigningKey, Topics, key_rotated
from secretsd_client._trust import OLD_KEY_SECS, Trust

TOPICS = Topics("jarvis/secretsd")
TIME = "2026-01-01T00:00:00.000Z"
OLD, NEW, NEWER = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()


def signed(key: SigningKey, *, sequence: int = 0) -> Event:
    chain = Chain(log_id="log", node="node", key=key, sequence=sequence)
    return chain.append("daemon.started", None, {}, TIME)


def rotation(old: SigningKey, new: SigningKey, *, sequence: int = 0) -> Event:
    chain = Chain(log_id="log", node="node", key=old, sequence=sequence)
    return chain.append("audit.key_rotated", None, key_rotated(new), TIME)


def believes(trust: Trust, key: SigningKey, now: float = 0.0) -> bool:
    try:
        trust.verifier(TOPICS, now).verify("jarvis/secretsd/audit/daemon/started", signed(key).raw)
    except Refused as refusal:
        return refusal.slug != "unknown-key"
    return True


def test_the_current_keys_of_http_are_believed_and_past_ones_are_not():
    trust = Trust()
    assert not trust.known
    assert trust.learn([{**OLD.public.to_jwk(), "last_sequence": 41}, NEW.public.to_jwk()])
    assert believes(trust, NEW)
    assert not believes(trust, OLD)


def test_what_http_says_later_replaces_what_it_said_before():
    trust = Trust()
    trust.learn([OLD.public.to_jwk()])
    trust.learn([NEW.public.to_jwk()])
    assert not believes(trust, OLD)


def test_keys_of_unknown_kinds_are_passed_over_and_no_usable_key_changes_nothing():
    trust = Trust()
    trust.learn([OLD.public.to_jwk()])
    assert not trust.learn([{"kty": "RSA", "n": "AQAB"}, {}])
    assert believes(trust, OLD)


def past(ended: SigningKey, line: Event) -> dict[str, object]:
    return {**ended.public.to_jwk(), "last_sequence": line.sequence, "rotated": line.raw.decode()}


def test_a_pinned_key_is_followed_over_every_rotation_that_was_missed():
    trust = Trust(OLD.public)
    first, second = rotation(OLD, NEW, sequence=3), rotation(NEW, NEWER, sequence=9)
    trust.learn([NEWER.public.to_jwk(), past(NEW, second), past(OLD, first)], 0.0)
    assert believes(trust, NEWER)
    assert not believes(trust, OLD, OLD_KEY_SECS)
    assert trust.follow(rotation(OLD, SigningKey.generate(), sequence=3), 0.0) == "repeated"


def test_a_published_line_leads_nowhere_without_the_keys_own_signatures():
    stranger = SigningKey.generate()
    unsigned = rotation(OLD, NEW).raw.decode().replace('"log-1"', '"log-2"')
    for line in (rotation(stranger, NEW).raw.decode(), unsigned, signed(OLD).raw.decode(), "", 7, None):
        trust = Trust(OLD.public)
        trust.learn([NEW.public.to_jwk(), {**OLD.public.to_jwk(), "last_sequence": 1, "rotated": line}], 0.0)
        assert not believes(trust, NEW)
        assert believes(trust, OLD)


def test_a_pinned_key_learns_nothing_from_http():
    trust = Trust(OLD.public)
    trust.learn([NEW.public.to_jwk()])
    assert believes(trust, OLD)
    assert not believes(trust, NEW)


def test_a_rotated_key_is_followed_and_the_old_one_counts_a_minute_longer():
    trust = Trust(OLD.public)
    assert trust.follow(rotation(OLD, NEW), now=100.0) == "followed"
    assert believes(trust, NEW, now=100.0)
    assert believes(trust, OLD, now=100.0 + OLD_KEY_SECS - 1)
    assert not believes(trust, OLD, now=100.0 + OLD_KEY_SECS)
    assert believes(trust, NEW, now=100.0 + OLD_KEY_SECS)


def test_a_replayed_rotation_leads_nowhere():
    trust = Trust(OLD.public)
    first = rotation(OLD, NEW, sequence=10)
    trust.follow(first, now=0.0)
    trust.follow(rotation(NEW, NEWER, sequence=20), now=1.0)
    assert trust.follow(first, now=2.0) == "repeated"
    assert believes(trust, NEWER, now=1.0 + OLD_KEY_SECS)
    assert not believes(trust, NEW, now=1.0 + OLD_KEY_SECS)


def test_a_redelivered_rotation_changes_nothing():
    trust = Trust(OLD.public)
    event = rotation(OLD, NEW, sequence=10)
    trust.follow(event, now=0.0)
    assert trust.follow(event, now=50.0) == "repeated"
    assert not believes(trust, OLD, now=OLD_KEY_SECS)


def test_what_http_says_of_a_rotation_that_was_followed_changes_nothing():
    trust = Trust(OLD.public)
    event = rotation(OLD, NEW, sequence=10)
    trust.follow(event, now=0.0)
    for keys in ([NEW.public.to_jwk()], [NEW.public.to_jwk(), past(OLD, event)]):
        trust.learn(keys, 50.0)
        assert trust.follow(event, now=50.0) == "repeated"
    assert not believes(trust, OLD, now=OLD_KEY_SECS)
    assert believes(trust, NEW, now=OLD_KEY_SECS)


def test_a_rotation_to_a_key_that_does_not_agree_is_not_followed():
    jwk = NEW.public.to_jwk()
    proof = key_rotated(NEWER)["proof"]
    chain = Chain(log_id="log", node="node", key=OLD)
    event = chain.append("audit.key_rotated", None, {"jwk": jwk, "proof": proof}, TIME)
    trust = Trust(OLD.public)
    assert trust.follow(event, now=0.0) == "not_followed"
    assert not believes(trust, NEW)


def test_a_rotated_key_names_no_other_successor_though_it_still_counts():
    trust = Trust(OLD.public)
    trust.follow(rotation(OLD, NEW, sequence=10), now=0.0)
    assert believes(trust, OLD, now=1.0)
    assert trust.follow(rotation(OLD, NEWER, sequence=20), now=1.0) == "not_followed"
    assert not believes(trust, NEWER, now=1.0)
    assert believes(trust, NEW, now=1.0 + OLD_KEY_SECS)


@pytest.mark.parametrize("pem", [b"", b"nonsense", NEW.to_pem()])
def test_a_pem_that_is_no_public_key_is_refused_without_being_shown(tmp_path, pem):
    from secretsd_client import SecretsError

    path = tmp_path / "pub.pem"
    path.write_bytes(pem)
    with pytest.raises(SecretsError, match="not the PEM") as caught:
        Trust.from_pem_file(path)
    assert "PRIVATE" not in repr(caught.value)
