"""Events that a verifier accepts, those it refuses (each for one reason alone), and canonical JSON."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secretsd_bus import Chain, Event, SigningKey, Unchained, b64url_decode, b64url_encode, key_rotated

PREFIX: Final = "jarvis/secretsd"
LOG_ID: Final = "b7qk2mzr"
NODE: Final = "pi-5.home"
EPOCH: Final = "k3v9x1"
TIME: Final = "2026-11-23T17:00:00.123Z"


def key(seed: int) -> SigningKey:
    """A key for tests: its seed is one byte 32 times, so anybody can have it."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


TRUSTED: Final = key(1)
NEXT: Final = key(2)
FOREIGN: Final = key(3)


def asked(kind: str) -> dict[str, Any]:
    """Who asked for a rotation of the key `kind`."""
    return {"key": kind, "client": "admin", "reason": None, "epoch": EPOCH, "generation": 43}


def build() -> dict[str, Any]:
    return {
        "keys": {
            "comment": "Public keys that the other files name. The private keys are one byte 32 times: 1, 2 and 3.",
            "topic_prefix": PREFIX,
            "trusted": TRUSTED.public.to_jwk(),
            "next": NEXT.public.to_jwk(),
            "foreign": FOREIGN.public.to_jwk(),
        },
        "accepted": accepted(),
        "refused": refused(),
        "following": following(),
        "canonical": canonical(),
    }


def secret_data(**changes: Any) -> dict[str, Any]:
    return {
        "name": "postgres_password",
        "version": 2,
        "kid": "Zk3rS8b1QmWv7nTy",
        "type": "password",
        "status": "active",
        "expires_at": "9999-12-31T23:59:59.999Z",
        "previous": {"version": 1, "kid": "a0PqL5xUe2Rj9HcD", "grace_until": "2026-11-30T17:00:00.123Z"},
        "epoch": EPOCH,
        "generation": 42,
        "client": "admin",
        "reason": "requested",
        "urgent": False,
        "spread_ms": 200,
    } | changes


def access_data(**changes: Any) -> dict[str, Any]:
    return {
        "client": "backend",
        "auth": "token",
        "action": "read",
        "name": "postgres_password",
        "kid": "Zk3rS8b1QmWv7nTy",
        "version": 2,
        "outcome": "ok",
        "reason": None,
        "peer": "127.0.0.1",
        "request_id": "01JDCQ8Z",
    } | changes


# Accepted


def accepted() -> list[dict[str, Any]]:
    chain = Chain(log_id=LOG_ID, node=NODE, key=TRUSTED)
    loose = Unchained(log_id=LOG_ID, node=NODE, key=TRUSTED, session=7)
    name = "postgres_password"
    cases: list[dict[str, Any]] = []

    def case(title: str, comment: str, event: Event, *topics: str) -> None:
        cases.append(
            {
                "name": title,
                "comment": comment,
                "topics": [f"{PREFIX}/{topic}" for topic in topics],
                "payload": event.raw.decode(),
            }
        )

    started = {"version": "0.1.0", "session": 7, "epoch": EPOCH, "generation": 41, "note": None}
    case(
        "first-line",
        "a log's first line: prev is 43 A's; an event without subject",
        chain.append("daemon.started", None, started, TIME),
        "audit/daemon/started",
    )
    for verb in ("created", "updated", "rotated", "expiring", "expired", "retired", "deleted"):
        retired = {"retired_version": 1, "retired_kid": "a0PqL5xUe2Rj9HcD"} if verb == "retired" else {}
        case(
            f"secret-{verb}",
            "a change counts on the secret's own topic and among the audit events",
            chain.append(f"secret.{verb}", name, secret_data(**retired), TIME),
            f"secret/{name}/{verb}",
            f"audit/secret/{verb}",
        )
    case(
        "secret-read",
        "an access is an audit event only",
        chain.append("secret.read", name, access_data(), TIME),
        "audit/secret/read",
    )
    denied = access_data(client=None, name=None, kid=None, version=None, outcome="denied", reason="unknown-client")
    case(
        "access-denied",
        "null where the policy knows no client and the vault no name",
        chain.append("access.denied", None, denied | {"count": 3}, TIME),
        "audit/access/denied",
    )
    case(
        "text-beyond-ascii",
        "strings stay UTF-8, only quote and backslash are escaped; U+0080, U+2028 and U+10FFFF stand as they are",
        chain.append("secret.rotated", name, secret_data(reason='„neu" \\ é 😀 \x80 \u2028 \U0010ffff'), TIME),
        f"secret/{name}/rotated",
        "audit/secret/rotated",
    )
    case(
        "unknown-data",
        "members of data that a reader doesn't know are no reason to refuse",
        chain.append("policy.reloaded", None, {"sha256": "00" * 32, "later": {"a": [1, True, None]}}, TIME),
        "audit/policy/reloaded",
    )
    case(
        "largest-integer",
        "2^53 - 1 and its negative are the ends of what a number can be",
        chain.append("audit.gap", None, {"first": -(2**53) + 1, "last": 2**53 - 1, "reason": "too old"}, TIME),
        "audit/audit/gap",
    )
    case(
        "deepest",
        "16 levels are the most, the outermost included",
        chain.append("policy.reloaded", None, {"sha256": "00" * 32, "later": nested(14)}, TIME),
        "audit/policy/reloaded",
    )
    longest = "x" * 128
    case(
        "longest-name",
        "a name has at most 128 characters",
        chain.append("secret.rotated", longest, secret_data(name=longest), TIME),
        f"secret/{longest}/rotated",
        "audit/secret/rotated",
    )
    case(
        "time-without-fraction",
        "a time may end at the second",
        chain.append("daemon.stopped", None, started, "2028-02-29T23:59:59Z"),
        "audit/daemon/stopped",
    )
    case(
        "key-rotated",
        "signed by the old key; proof is the new key's signature over the canonical jwk",
        chain.append("audit.key_rotated", None, key_rotated(NEXT) | asked("signing"), TIME),
        "audit/audit/key_rotated",
    )
    case(
        "vault-key-rotated",
        "another key of the daemon's own: what it is stays with the daemon",
        chain.append("vault.key_rotated", None, asked("data"), TIME),
        "audit/vault/key_rotated",
    )
    case(
        "state",
        "unchained: no sequence, no prev",
        loose.seal("secret.state", name, secret_data(), TIME),
        f"secret/{name}/state",
    )
    checkpoint = {
        "sequence": 42,
        "head": chain.head,
        "epoch": EPOCH,
        "generation": 42,
        "session": 7,
        "uptime_ms": 81_234,
        "interval_secs": 10,
    }
    case("checkpoint", "", loose.seal("audit.checkpoint", None, checkpoint, TIME), f"checkpoint/{NODE}")
    case("status", "", loose.seal("daemon.status", None, {"state": "online", "session": 7}, TIME), f"status/{NODE}")
    return cases


def nested(levels: int) -> dict[str, Any]:
    """Return so many objects within each other, the innermost empty."""
    return {"a": nested(levels - 1)} if levels > 1 else {}


# Refused


def envelope(**changes: Any) -> dict[str, Any]:
    """A good event's members, unsigned; a change to ... takes the member away."""
    members: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"{LOG_ID}-1",
        "source": f"/jarvis/secretsd/{NODE}",
        "type": "jarvis.secretsd.secret.rotated",
        "subject": "postgres_password",
        "time": TIME,
        "datacontenttype": "application/json",
        "sequence": f"{1:020}",
        "prev": "A" * 43,
        "keyid": TRUSTED.keyid,
        "data": secret_data(),
    } | changes
    return {name: value for name, value in members.items() if value is not ...}


def signed(members: dict[str, Any], by: SigningKey = TRUSTED) -> dict[str, Any]:
    return members | {"signature": b64url_encode(by.sign(rfc8785.dumps(members)))}


def refused() -> list[dict[str, Any]]:
    good = rfc8785.dumps(signed(envelope()))
    text = good.decode()
    topic = "secret/postgres_password/rotated"
    cases: list[dict[str, Any]] = []

    def case(slug: str, title: str, comment: str, payload: bytes | dict[str, Any], on: str = topic) -> None:
        payload = rfc8785.dumps(payload) if isinstance(payload, dict) else payload
        try:
            content = {"payload": payload.decode()}
        except UnicodeDecodeError:
            content = {"payload_base64": base64.b64encode(payload).decode()}
        at = on.removeprefix("../") if on.startswith("../") else f"{PREFIX}/{on}"
        cases.append({"name": title, "slug": slug, "comment": comment, "topic": at} | content)

    case("not-json", "empty", "nothing at all, as a cleared retained message", b"")
    case("not-json", "cut-short", "the last byte is missing", good[:-1])
    case("not-json", "bad-utf-8", "one byte that is no UTF-8", good.replace(b"requested", b"request\xff"))
    case("not-json", "byte-order-mark", "U+FEFF before the object", b"\xef\xbb\xbf" + good)
    case("not-json", "two-objects", "one object behind the other", good + good)
    case("not-json", "array", "an array around it", b"[" + good + b"]")
    case("not-json", "doubled-member", "parsers disagree about which one counts", b'{"data":{},' + good[1:])
    case(
        "not-json",
        "doubled-member-inside",
        "the same inside data",
        good.replace(b'"urgent":', b'"urgent":false,"urgent":'),
    )
    case("not-json", "nan", "NaN is no JSON", good.replace(b'"generation":42', b'"generation":NaN'))
    for title, comment, spelled in (
        ("leading-zero", "042 for 42", b"042"),
        ("plus-sign", "+42 for 42", b"+42"),
        ("bare-point", "42. for 42", b"42."),
        ("hexadecimal", "0x2a for 42", b"0x2a"),
        ("infinity", "Infinity is no JSON", b"Infinity"),
        ("comment", "a comment is no JSON", b"42/**/"),
        ("trailing-comma", "a comma behind the last member", b"42,"),
        ("no-break-space", "U+00A0 is no space of JSON's", b"\xc2\xa042"),
    ):
        case("not-json", title, comment, good.replace(b'"generation":42', b'"generation":' + spelled))
    for title, comment, spelled in (
        ("raw-newline", "U+000A as it is, not as an escape", b"request\n"),
        ("unknown-escape", "a backslash before what needs none", b"request\\x"),
        ("short-escape", "three hex digits", b"request\\u00e"),
        ("overlong-utf-8", "U+0000 in two bytes", b"request\xc0\x80"),
        ("surrogate-in-utf-8", "U+D800 as three bytes", b"request\xed\xa0\x80"),
        ("beyond-unicode", "U+110000", b"request\xf4\x90\x80\x80"),
    ):
        case("not-json", title, comment, good.replace(b"requested", spelled))
    case("not-json", "single-quotes", "as in other languages", good.replace(b'"requested"', b"'requested'"))
    case("not-json", "text", "a string, not an object", b'"requested"')
    case("not-json", "too-deep", "17 levels", signed(envelope(data=nested(16))))

    case("not-canonical", "newline-at-the-end", "the line's newline does not belong to it", good + b"\n")
    case("not-canonical", "space", "one space", good.replace(b'"generation":42', b'"generation": 42'))
    case("not-canonical", "order", "type comes first", reordered(good))
    case("not-canonical", "escaped-letter", "e as an escape", good.replace(b"requested", b"r\\u0065quested"))
    case("not-canonical", "escaped-slash", "a slash needs no escape", good.replace(b"/json", b"\\/json"))
    case("not-canonical", "float", "42.0 for 42", good.replace(b'"generation":42', b'"generation":42.0'))
    case("not-canonical", "exponent", "42e0 for 42", good.replace(b'"generation":42', b'"generation":42e0'))
    zero = rfc8785.dumps(signed(envelope(data=secret_data(spread_ms=0))))
    case("not-canonical", "minus-zero", "-0 for 0", zero.replace(b'"spread_ms":0', b'"spread_ms":-0'))
    case("not-canonical", "half", "a fraction: no event holds one", signed(envelope(data=secret_data(version=0.5))))
    case(
        "not-canonical",
        "two-to-the-53",
        "2^53: not every reader holds it exactly",
        raw_signed(text, '"generation":42', '"generation":9007199254740992'),
    )
    case(
        "not-canonical",
        "thousands-of-digits",
        "an integer that no reader should work on",
        raw_signed(text, '"generation":42', f'"generation":{"9" * 5000}'),
    )
    case("not-canonical", "control-character", "U+000A in a string", signed(envelope(data=secret_data(reason="a\nb"))))
    case(
        "not-canonical", "delete-character", "U+007F: jq escapes it", signed(envelope(data=secret_data(reason="\x7f")))
    )
    case("not-canonical", "lone-surrogate", "U+D800 alone", good.replace(b"requested", b"\\ud800"))
    emoji = rfc8785.dumps(signed(envelope(data=secret_data(reason="\U0001f600"))))
    escaped = emoji.replace("\U0001f600".encode(), b"\\ud83d\\ude00")
    case("not-canonical", "escaped-pair", "U+1F600 as two escapes", escaped)
    case(
        "not-canonical",
        "swapped-pair",
        "a low surrogate before a high one",
        good.replace(b"requested", b"\\ude00\\ud83d"),
    )
    case("not-canonical", "escaped-null", "U+0000 as an escape", signed(envelope(data=secret_data(reason="\0"))))
    case("not-canonical", "key-beyond-ascii", "é as a member's name", signed(envelope(data=secret_data(é=1))))
    for member in (
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "datacontenttype",
        "sequence",
        "prev",
        "keyid",
        "data",
    ):
        case(
            "not-canonical",
            f"without-{member}",
            "a member of the envelope is missing",
            signed(envelope(**{member: ...})),
        )
    case("not-canonical", "unsigned", "signature is missing", envelope())
    case("not-canonical", "specversion-0.3", "another CloudEvents", signed(envelope(specversion="0.3")))
    case("not-canonical", "foreign-type", "not a type of ours", signed(envelope(type="com.example.secret.rotated")))
    case("not-canonical", "foreign-source", "not a source of ours", signed(envelope(source="/elsewhere/n")))
    case("not-canonical", "sequence-as-number", "1 for its 20 digits", signed(envelope(sequence=1)))
    case("not-canonical", "sequence-short", "19 digits", signed(envelope(sequence=f"{1:019}")))
    case("not-canonical", "prev-short", "42 characters", signed(envelope(prev="A" * 42)))
    case("not-canonical", "prev-other-alphabet", "a plus sign is no base64url", signed(envelope(prev="A" * 42 + "+")))
    case("not-canonical", "sequence-zero", "the first line is 1", signed(envelope(sequence="0" * 20)))
    beyond = f"{2**53:020}"
    case("not-canonical", "sequence-two-to-the-53", "not every reader holds it", signed(envelope(sequence=beyond)))
    case("not-canonical", "sequence-other-digits", "Arabic digits", signed(envelope(sequence="\u0660" * 19 + "\u0661")))
    for title, comment, kind in (
        ("type-alone", "a category without a verb", "jarvis.secretsd.secret"),
        ("type-three-words", "a verb has no point", "jarvis.secretsd.secret.rotated.twice"),
        ("type-capital", "small letters only", "jarvis.secretsd.secret.Rotated"),
        ("type-digit", "letters only", "jarvis.secretsd.secret.rotated2"),
    ):
        case("not-canonical", title, comment, signed(envelope(type=kind)))
    for title, comment, source in (
        ("source-without-node", "nothing behind the slash", "/jarvis/secretsd/"),
        ("source-two-levels", "a node has no slash", "/jarvis/secretsd/a/b"),
    ):
        case("not-canonical", title, comment, signed(envelope(source=source)))
    for title, comment, time in (
        ("time-no-such-day", "30 February", "2026-02-30T17:00:00.123Z"),
        ("time-leap-second", "second 60", "2026-11-23T17:00:60.123Z"),
        ("time-with-space", "a space for T", "2026-11-23 17:00:00.123Z"),
        ("time-empty-fraction", "a point and no digit", "2026-11-23T17:00:00.Z"),
    ):
        case("not-canonical", title, comment, signed(envelope(time=time)))
    case("not-canonical", "id-empty", "an id that names nothing", signed(envelope(id="")))
    case("not-canonical", "subject-empty", "a subject that is empty, not left out", signed(envelope(subject="")))
    case("not-canonical", "keyid-as-number", "a number for its digits", signed(envelope(keyid=1)))
    unsealed = envelope() | {"signature": ""}
    case("not-canonical", "signature-empty", "a signature of no characters", unsealed)
    case("not-canonical", "data-as-text", "JSON in a string", signed(envelope(data=json.dumps({"a": 1}))))
    case("not-canonical", "time-with-offset", "not in UTC", signed(envelope(time="2026-11-23T18:00:00.123+01:00")))
    case("not-canonical", "subject-null", "a subject that is null, not left out", signed(envelope(subject=None)))
    state = envelope(type="jarvis.secretsd.secret.state")
    case(
        "not-canonical",
        "state-with-sequence",
        "a state stands in no log",
        signed(state),
        "secret/postgres_password/state",
    )

    case("unknown-key", "foreign-key", "a good event of a stranger", signed(envelope(keyid=FOREIGN.keyid), FOREIGN))
    case("bad-signature", "foreign-signature", "a stranger who names our key", signed(envelope(), FOREIGN))
    case("bad-signature", "altered", "the generation was raised", good.replace(b'"generation":42', b'"generation":43'))
    case("bad-signature", "added-member", "a member was added", added(good))
    case("bad-signature", "signature-cut", "63 bytes", replaced_signature(good, lambda value: value[:84]))
    case("bad-signature", "signature-padded", "padding", replaced_signature(good, lambda value: value + "=="))
    case("bad-signature", "signature-unused-bits", "the same bytes in another spelling", other_spelling(good))

    case("unknown-key", "keyid-capital", "ids are small letters", signed(envelope(keyid=TRUSTED.keyid.upper())))
    case("bad-signature", "signature-standard-alphabet", "plus and slash", standard_alphabet())
    case(
        "bad-signature",
        "signature-other-scalar",
        "the group's order added: RFC 8032 takes one only",
        other_scalar(good),
    )
    case("bad-signature", "signature-zero", "64 zero bytes", replaced_signature(good, lambda value: "A" * len(value)))
    case("bad-signature", "of-another-event", "a good signature of ours over another event", borrowed(good))

    case("wrong-topic", "other-prefix", "another vault's topic", good, "../other/secret/postgres_password/rotated")
    case("wrong-topic", "other-secret", "moved to another secret", good, "secret/jwt_signing_key/rotated")
    case("wrong-topic", "other-verb", "a rotation on the topic of deletions", good, "secret/postgres_password/deleted")
    case("wrong-topic", "as-state", "an event on the state's topic", good, "secret/postgres_password/state")
    case("wrong-topic", "other-audit-topic", "among other audit events", good, "audit/secret/created")
    case("wrong-topic", "empty-level", "a level more, without a name", good, "secret//postgres_password/rotated")
    case("wrong-topic", "no-level", "the topic's last level alone", good, "../rotated")
    capital = signed(envelope(data=secret_data(name="Postgres_password")))
    case("wrong-topic", "other-case", "names differ by case", capital)
    nameless = signed(envelope(data=secret_data(name=None)))
    case("wrong-topic", "without-name", "a change of nothing counts nowhere", nameless, "audit/secret/rotated")
    long = "x" * 129
    too_long = signed(envelope(data=secret_data(name=long)))
    case("wrong-topic", "name-too-long", "129 characters", too_long, f"secret/{long}/rotated")
    case("wrong-topic", "below", "one level too deep", good, "secret/postgres_password/rotated/x")
    read = signed(envelope(type="jarvis.secretsd.secret.read", data=access_data()))
    case(
        "wrong-topic", "read-on-secret-topic", "an access is an audit event only", read, "secret/postgres_password/read"
    )
    slash = signed(envelope(data=secret_data(name="a/b")))
    case("wrong-topic", "name-with-slash", "a name that can't be one", slash, "secret/a/b/rotated")
    loose = envelope(type="jarvis.secretsd.audit.checkpoint", sequence=..., prev=..., subject=..., data={"sequence": 1})
    case("wrong-topic", "other-node", "another node's checkpoint", signed(loose), "checkpoint/elsewhere")
    return cases


def reordered(good: bytes) -> bytes:
    members = json.loads(good)
    return json.dumps({"type": members.pop("type"), **members}, separators=(",", ":"), ensure_ascii=False).encode()


def added(good: bytes) -> bytes:
    return rfc8785.dumps(json.loads(good) | {"extra": "x"})


def raw_signed(text: str, old: str, new: str) -> bytes:
    """Spell and sign an event that no canonicaliser would write."""
    unsigned = json.dumps(envelope(), sort_keys=True, separators=(",", ":")).replace(old, new)
    assert old in text
    signature = b64url_encode(TRUSTED.sign(unsigned.encode()))
    return unsigned.replace(',"source":', f',"signature":"{signature}","source":').encode()


def replaced_signature(good: bytes, change: Any) -> bytes:
    members = json.loads(good)
    return rfc8785.dumps(members | {"signature": change(members["signature"])})


def other_spelling(good: bytes) -> bytes:
    """64 bytes leave four unused bits in the last character; set one of them."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return replaced_signature(good, lambda value: value[:-1] + alphabet[alphabet.index(value[-1]) | 1])


def standard_alphabet() -> bytes:
    """Find an event whose signature has both characters that base64's alphabets differ in; spell it the other way."""
    for version in range(1, 100):
        good = rfc8785.dumps(signed(envelope(data=secret_data(version=version))))
        signature = json.loads(good)["signature"]
        if "-" in signature and "_" in signature:
            return replaced_signature(good, lambda value: value.replace("-", "+").replace("_", "/"))
    raise AssertionError("no such signature")


def other_scalar(good: bytes) -> bytes:
    """Add the group's order to the signature's scalar: the equation holds, and a strict verifier says no."""
    order = 2**252 + 27742317777372353535851937790883648493

    def added_order(value: str) -> str:
        raw = b64url_decode(value)
        scalar = int.from_bytes(raw[32:], "little") + order
        return b64url_encode(raw[:32] + scalar.to_bytes(32, "little"))

    return replaced_signature(good, added_order)


def borrowed(good: bytes) -> bytes:
    other = signed(envelope(data=secret_data(version=3)))["signature"]
    return replaced_signature(good, lambda _: other)


# Rotated keys


def following() -> dict[str, Any]:
    """Rotations of the trusted key that lead on, and those that don't though the message itself verifies."""
    chain = Chain(log_id=LOG_ID, node=NODE, key=TRUSTED, sequence=6)

    def rotation(data: dict[str, Any], by: SigningKey = TRUSTED, sequence: int = 7) -> str:
        members = envelope(
            type="jarvis.secretsd.audit.key_rotated",
            subject=...,
            id=f"{LOG_ID}-{sequence}",
            sequence=f"{sequence:020}",
            keyid=by.keyid,
            data=data | asked("signing"),
        )
        return rfc8785.dumps(signed(members, by)).decode()

    introduced = key_rotated(NEXT)
    stolen = introduced | {"proof": b64url_encode(TRUSTED.sign(rfc8785.dumps(introduced["jwk"])))}
    renamed = introduced["jwk"] | {"kid": FOREIGN.keyid}
    live: list[dict[str, Any]] = []

    def step(title: str, comment: str, payload: str, leads_to: SigningKey | None = None) -> None:
        keyid = None if leads_to is None else leads_to.keyid
        live.append({"name": title, "comment": comment, "payload": payload, "leads_to": keyid})

    step(
        "rotated", "the daemon's own line", chain.append("audit.key_rotated", None, introduced, TIME).raw.decode(), NEXT
    )
    step("further-members", "members of data that a reader doesn't know", rotation(introduced | {"later": 1}), NEXT)
    step("no-proof", "the new key says nothing", rotation({"jwk": introduced["jwk"]}))
    step("no-key", "no new key", rotation({"proof": introduced["proof"]}))
    step("stolen", "the old key's proof: nobody introduces a key that they don't hold", rotation(stolen))
    padded = introduced | {"proof": introduced["proof"] + "=="}
    step("padded-proof", "the proof in another spelling", rotation(padded))
    other_kid = {"jwk": renamed, "proof": b64url_encode(NEXT.sign(rfc8785.dumps(renamed)))}
    step("other-kid", "a kid that is not the key's", rotation(other_kid))
    curve = introduced["jwk"] | {"crv": "Ed448"}
    step("other-curve", "a kind of key that signs no events", rotation(introduced | {"jwk": curve}))
    step("another-rotation", "the rotation of another key of the daemon's", rotation({}))

    first, second = rotation(introduced), rotation(key_rotated(FOREIGN), NEXT, 12)
    past = {**TRUSTED.public.to_jwk(), "last_sequence": 7, "rotated": first}
    later = {**NEXT.public.to_jwk(), "last_sequence": 12, "rotated": second}
    published: list[dict[str, Any]] = []

    def publish(
        title: str, comment: str, keys: list[dict[str, Any]], to: SigningKey | None, sequence: int | None
    ) -> None:
        keyid = None if to is None else to.keyid
        published.append({"name": title, "comment": comment, "keys": keys, "leads_to": keyid, "sequence": sequence})

    newest = FOREIGN.public.to_jwk()
    publish("nothing", "no key was rotated", [TRUSTED.public.to_jwk()], None, None)
    publish("one-step", "the known key was rotated once", [NEXT.public.to_jwk(), past], NEXT, 7)
    publish("two-steps", "twice, whatever the order", [newest, past, later], FOREIGN, 12)
    publish("two-steps-backwards", "the same the other way round", [later, past, newest], FOREIGN, 12)
    publish("gap", "the first line is missing, so nothing leads on", [newest, later], None, None)
    publish("claimed", "a current key that no line leads to", [newest, TRUSTED.public.to_jwk()], None, None)
    altered = past | {"rotated": first.replace("admin", "nobody")}
    publish("altered", "the line was changed after signing", [NEXT.public.to_jwk(), altered], None, None)
    swapped = past | {"rotated": rotation(key_rotated(FOREIGN), FOREIGN)}
    publish("swapped", "a stranger's line", [newest, swapped], None, None)
    back = {**NEXT.public.to_jwk(), "last_sequence": 5, "rotated": rotation(key_rotated(TRUSTED), NEXT, 5)}
    publish("back", "a line that is older than the step before it leads nowhere", [past, back], NEXT, 7)
    publish("no-text", "what is no line is passed over", [past | {"rotated": 7}, {"rotated": None}], None, None)
    return {"live": live, "published": published}


# Canonical JSON


def canonical() -> dict[str, Any]:
    values: list[Any] = [
        {},
        [],
        {"b": 1, "a": 2, "B": 3, "_": 4, "0": 5, "": 6, "aa": 7},
        {"nested": {"z": [1, "2", True, False, None, {}], "y": []}},
        [0, -1, 2**53 - 1, -(2**53) + 1],
        ["", "é", "€", "😀", "\u2028\u2029", "\x80", "\ufeff", "\uffff", "\U0010ffff"],
        ['"', "\\", "/", "\\n", '\\"', "\\u0041", "<>&'"],
    ]
    refused = [
        ("float", "1.5"),
        ("whole-float", "1.0"),
        ("two-to-the-53", "9007199254740992"),
        ("minus-two-to-the-53", "-9007199254740992"),
        ("newline", '"\\n"'),
        ("null-character", '"\\u0000"'),
        ("delete-character", '"\\u007f"'),
        ("lone-surrogate", '"\\ud83d"'),
        ("key-beyond-ascii", '{"\\u00e9":1}'),
        ("key-with-control-character", '{"\\t":1}'),
    ]
    return {
        "encode": [{"value": value, "canonical": rfc8785.dumps(value).decode()} for value in values],
        "refuse": [{"name": name, "json": text} for name, text in refused],
    }
