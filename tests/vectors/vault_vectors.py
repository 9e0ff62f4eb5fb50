"""Key files, sealed values and vault documents, made without the daemon's code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, Final

import rfc8785
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MASTER: Final = bytes(range(32))
OTHER_MASTER: Final = bytes(range(1, 33))
VAULT_ID: Final = "mWb0Xo9sT1qJ4rVf7KdZcA"
EPOCH: Final = "k3v9x1Lq8YtB5nPwE2sHuQ"
LOG_ID: Final = "b7qk2mzrA0dGxJ4TfV9oWc"
DATA_KEY: Final = "uN6wXr2PzK9dTq4LmB7eYg"
NOW_MS: Final = 1_795_453_200_123
NEVER_MS: Final = 253_402_300_799_999
DAY_MS: Final = 86_400_000


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def derived(purpose: str, master: bytes = MASTER, vault_id: str = VAULT_ID, data_key: str | None = None) -> bytes:
    """HKDF-SHA256 (RFC 5869), one block: salt is the vault's id, info the label, in format 2 with the data key's id."""
    extracted = hmac.new(vault_id.encode(), master, hashlib.sha256).digest()
    label = f"jarvis-secretsd/1/{purpose}" if data_key is None else f"jarvis-secretsd/2/{purpose}/{data_key}"
    return hmac.new(extracted, label.encode() + b"\x01", hashlib.sha256).digest()


def place(name: str, version: int, kid: str, **changes: Any) -> dict[str, Any]:
    return {"document_format": 1, "vault_id": VAULT_ID, "name": name, "version": version, "kid": kid} | changes


def sealed(value: bytes, where: dict[str, Any], nonce: bytes, key: bytes | None = None) -> tuple[str, bytes]:
    """Return the ciphertext and the associated data. A nonce may be fixed here: each is used once with this key."""
    context = rfc8785.dumps([where[part] for part in ("document_format", "vault_id", "name", "version", "kid")])
    return b64url(AESGCM(key or derived("value")).encrypt(nonce, value, context)), context


# Sealed values


def build_values() -> dict[str, Any]:
    return {"values": {"opens": opens(), "refused": moved()}, "master_keys": master_keys()}


def master_keys() -> dict[str, Any]:
    """Key files; the costs are small here, so that reading them takes no time."""
    passphrase = b"correct horse"
    salt, nonce, memory, iterations, lanes = bytes(range(16)), bytes([3]) * 12, 64, 2, 1
    argon2id = Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory)
    stretched = argon2id.derive(passphrase)
    context = rfc8785.dumps(["master.key", 1, b64url(salt), memory, iterations, lanes])
    wrapped = {
        "format": 1,
        "protection": "argon2id",
        "key": b64url(AESGCM(stretched).encrypt(nonce, MASTER, context)),
        "nonce": b64url(nonce),
        "argon2id": {"salt": b64url(salt), "memory_kib": memory, "iterations": iterations, "lanes": lanes},
    }
    plain = {"format": 1, "protection": "none", "key": b64url(MASTER)}
    slots = [{name: value for name, value in one.items() if name != "format"} for one in (plain, wrapped)]
    return {
        "key": MASTER.hex(),
        "passphrase": passphrase.decode(),
        "plain": json.dumps(plain) + "\n",
        "wrapped": json.dumps(wrapped) + "\n",
        "changing": json.dumps({"format": 2, "keys": slots}) + "\n",
    }


def opens() -> list[dict[str, Any]]:
    cases = []
    for number, (title, comment, value, where) in enumerate(
        [
            ("text", "a value of a few bytes", b"s3cret", place("db_password", 1, "a0PqL5xUe2Rj9HcDmN4tYw")),
            ("one-byte", "the shortest value", b"\x00", place("a", 1, "Zk3rS8b1QmWv7nTyUe5xGo")),
            ("utf-8", "text beyond ASCII", "pässwörd 😀".encode(), place("x.y-z_0", 7, "hT2vC6yKj0LqR9sXwB3mEf")),
            ("bytes", "no text at all", bytes(range(256)), place("blob", 2, "Qp8nD1fGzS5aVu7oHk4JiW")),
            (
                "largest-version",
                "2^53 - 1 is the last version that can be",
                b"v",
                place("n" * 128, 2**53 - 1, "Lr4tM9eXb2YcN6wPgK0ZsU"),
            ),
        ]
    ):
        nonce = bytes([number]) * 12
        ciphertext, context = sealed(value, where, nonce)
        cases.append(
            {
                "name": title,
                "comment": comment,
                "key": derived("value").hex(),
                "place": where,
                "associated_data": context.decode(),
                "nonce": b64url(nonce),
                "ciphertext": ciphertext,
                "value": value.hex(),
            }
        )
    return cases


def moved() -> list[dict[str, Any]]:
    where = place("db_password", 2, "a0PqL5xUe2Rj9HcDmN4tYw")
    nonce = bytes([9]) * 12
    ciphertext, _ = sealed(b"s3cret", where, nonce)
    good: dict[str, Any] = {
        "key": derived("value").hex(),
        "place": where,
        "nonce": b64url(nonce),
        "ciphertext": ciphertext,
    }

    def flipped(text: str, byte: int) -> str:
        data = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        data[byte] ^= 1
        return b64url(bytes(data))

    def case(title: str, comment: str, **changes: Any) -> dict[str, Any]:
        return {"name": title, "comment": comment} | good | changes

    return [
        case("format", "taken into a document of another format", place=where | {"document_format": 2}),
        case("vault", "taken into another vault", place=where | {"vault_id": VAULT_ID[::-1]}),
        case("name", "put under another name", place=where | {"name": "db_passwore"}),
        case("version", "passed off as another version", place=where | {"version": 1}),
        case("kid", "passed off under another kid", place=where | {"kid": where["kid"][::-1]}),
        case("key", "the key of another purpose", key=derived("vault-mac").hex()),
        case("other-master", "the key from another master key", key=derived("value", OTHER_MASTER).hex()),
        case("nonce", "one bit of the nonce", nonce=flipped(good["nonce"], 0)),
        case("first-bit", "one bit of the first byte", ciphertext=flipped(ciphertext, 0)),
        case("tag", "one bit of the tag", ciphertext=flipped(ciphertext, -1)),
        case("cut-short", "the last byte of the tag is missing", ciphertext=b64url(_raw(ciphertext)[:-1])),
        case("only-a-tag", "no ciphertext but the tag", ciphertext=b64url(_raw(ciphertext)[-16:])),
        case("empty", "nothing at all", ciphertext=""),
        case("padded", "base64url with padding", ciphertext=ciphertext + "=="),
        case("other-alphabet", "base64 for base64url", ciphertext="+" + ciphertext[1:]),
    ]


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# Documents


def build_documents() -> dict[str, Any]:
    return {
        "keys": {
            "comment": "The master keys that the documents are of. Those of format 2 are sealed under the data key.",
            "master": MASTER.hex(),
            "other_master": OTHER_MASTER.hex(),
            "vault_id": VAULT_ID,
            "data_key": DATA_KEY,
        },
        "accepted": accepted(),
        "refused": refused(),
    }


def empty(**changes: Any) -> dict[str, Any]:
    return {
        "audit": {"head": "A" * 43, "log_id": LOG_ID, "sequence": 0},
        "epoch": EPOCH,
        "format": 1,
        "generation": 0,
        "outbox": [],
        "past_epochs": [],
        "policy": {"generation": 0, "sha256": "00" * 32},
        "receipts": [],
        "secrets": {},
        "tombstones": {},
        "vault_id": VAULT_ID,
    } | changes


def version(name: str, number: int, kid: str, value: bytes, **changes: Any) -> dict[str, Any]:
    nonce = hashlib.sha256(kid.encode()).digest()[:12]
    ciphertext, _ = sealed(value, place(name, number, kid), nonce)
    return {
        "ciphertext": ciphertext,
        "created_at": NOW_MS,
        "encoding": "utf-8",
        "grace_until": None,
        "kid": kid,
        "nonce": b64url(nonce),
        "version": number,
    } | changes


def secret(*versions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "announced": 0,
        "expires_at": NOW_MS + 90 * DAY_MS,
        "generation": 1,
        "grace_ms": 7 * DAY_MS,
        "rotation": "manual",
        "rotation_ms": 90 * DAY_MS,
        "status": "active",
        "type": "password",
        "versions": list(versions),
        "wishes": {"grace_ms": None, "rotation": None, "rotation_ms": None},
    } | changes


def full() -> dict[str, Any]:
    """A document in which every member has something in it."""
    name = "db_password"
    new = version(name, 2, "Zk3rS8b1QmWv7nTyUe5xGo", b"new")
    old = version(name, 1, "a0PqL5xUe2Rj9HcDmN4tYw", b"old", grace_until=NOW_MS + 7 * DAY_MS)
    blob = version("blob", 1, "Qp8nD1fGzS5aVu7oHk4JiW", b"\x00\xff", encoding="base64")
    return empty(
        generation=42,
        audit={"head": b64url(hashlib.sha256(b"line").digest()), "log_id": LOG_ID, "sequence": 1234},
        policy={"generation": 17, "sha256": hashlib.sha256(b"policy").hexdigest()},
        secrets={
            name: secret(new, old, generation=42),
            "blob": secret(
                blob,
                type="external",
                rotation_ms=None,
                grace_ms=None,
                expires_at=NEVER_MS,
                wishes={"grace_ms": -1, "rotation": "manual", "rotation_ms": -1},
            ),
        },
        tombstones={
            "gone": {
                "expires_at": NEVER_MS,
                "generation": 40,
                "kid": "Lr4tM9eXb2YcN6wPgK0ZsU",
                "type": "generic",
                "version": 3,
            }
        },
        outbox=[
            {
                "data": {"name": name, "reason": "„quoted“ \\ é 😀", "urgent": False, "previous": None, "version": 2},
                "subject": name,
                "type": "secret.rotated",
            },
            {"data": {"sha256": "00"}, "subject": None, "type": "policy.reloaded"},
        ],
        past_epochs=[{"epoch": "oldEpochOfThisVault000", "generation": 7}],
        receipts=[
            {
                "at": NOW_MS,
                "fingerprint": b64url(bytes(32)),
                "generation": 41,
                "key": b64url(bytes([1]) * 32),
            }
        ],
    )


KIDS: Final = ("Zk3rS8b1QmWv7nTyUe5xGo", "pY7wXe4RtB9vNq3ZsUk6Mf")


def receipt(number: int, *kids: str) -> dict[str, Any]:
    """A receipt of the client `backend`, with the kids that its request made."""
    return {
        "at": NOW_MS,
        "fingerprint": " ".join([b64url(bytes(32)), "backend", *kids]),
        "generation": number,
        "key": b64url(bytes([number]) * 32),
    }


def rotated() -> dict[str, Any]:
    """The full document after a rotation of its data key: format 2, everything sealed anew."""
    document = full() | {"format": 2, "data_key": DATA_KEY}
    key = derived("value", data_key=DATA_KEY)
    values = {("db_password", 2): b"new", ("db_password", 1): b"old", ("blob", 1): b"\x00\xff"}
    for name, one in document["secrets"].items():
        for each in one["versions"]:
            nonce = hashlib.sha256(b"2" + each["kid"].encode()).digest()[:12]
            where = place(name, each["version"], each["kid"], document_format=2)
            each["ciphertext"], _ = sealed(values[name, each["version"]], where, nonce, key)
            each["nonce"] = b64url(nonce)
    nonce = bytes([7]) * 12
    context = rfc8785.dumps([2, VAULT_ID, "request-fingerprint"])
    receipts_key = AESGCM(key).encrypt(nonce, derived("request-fingerprint"), context)
    return document | {"fingerprint_key": {"nonce": b64url(nonce), "ciphertext": b64url(receipts_key)}}


PENDING_TOKEN: Final = "Vb5nQ2xTz8LrK1mHc7WsJd"
PENDING_KID: Final = "pY7wXe4RtB9vNq3ZsUk6Mf"


def pending(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a rotation under way: format 3, its value sealed like any other of the same keys."""
    rotated_keys = "data_key" in document
    name = "db_password"
    coming = version(name, 3, PENDING_KID, b"coming")
    if rotated_keys:
        key = derived("value", data_key=DATA_KEY)
        nonce = hashlib.sha256(b"2" + PENDING_KID.encode()).digest()[:12]
        coming["nonce"] = b64url(nonce)
        coming["ciphertext"], _ = sealed(b"coming", place(name, 3, PENDING_KID, document_format=2), nonce, key)
    document["secrets"][name]["pending"] = {
        "attempts": 1,
        "client": "admin",
        "due_at": NOW_MS + 2000,
        "failure": "the other end doesn't answer",
        "grace_ms": None,
        "reason": "quarterly",
        "reported": False,
        "step": "set",
        "token": PENDING_TOKEN,
        "urgent": False,
        "verb": "rotated",
        "version": coming,
    }
    return document | {"format": 3}


def with_mac(document: dict[str, Any], master: bytes = MASTER) -> bytes:
    """Return the file: the canonical JSON of the document with the MAC of its canonical JSON without, a newline."""
    key = derived("vault-mac", master, data_key=document.get("data_key"))
    mac = hmac.new(key, rfc8785.dumps(document), hashlib.sha256).digest()
    return rfc8785.dumps(document | {"mac": b64url(mac)}) + b"\n"


def accepted() -> list[dict[str, Any]]:
    return [
        {
            "name": "empty",
            "format": 1,
            "comment": "a new vault",
            "position": f"{EPOCH}:0",
            "values": {},
            "file": with_mac(empty()).decode(),
        },
        {
            "name": "full",
            "format": 1,
            "comment": "something in every member: versions in grace, a tombstone, an owed event, a receipt",
            "position": f"{EPOCH}:42",
            "values": {
                "db_password": {"2": b"new".hex(), "1": b"old".hex()},
                "blob": {"1": b"\x00\xff".hex()},
            },
            "file": with_mac(full()).decode(),
        },
        {
            "name": "named-receipts",
            "format": 1,
            "comment": "receipts that know what was made: of one name, of two, of none",
            "position": f"{EPOCH}:3",
            "values": {},
            "file": with_mac(
                empty(generation=3, receipts=[receipt(3, *KIDS), receipt(2, KIDS[0]), receipt(1)])
            ).decode(),
        },
        {
            "name": "rotated",
            "format": 2,
            "comment": "the same after a rotation of its data key",
            "position": f"{EPOCH}:42",
            "values": {
                "db_password": {"2": b"new".hex(), "1": b"old".hex()},
                "blob": {"1": b"\x00\xff".hex()},
            },
            "file": with_mac(rotated()).decode(),
        },
        *(
            {
                "name": title,
                "format": 3,
                "comment": comment,
                "position": f"{EPOCH}:42",
                "values": {
                    "db_password": {"3": b"coming".hex(), "2": b"new".hex(), "1": b"old".hex()},
                    "blob": {"1": b"\x00\xff".hex()},
                },
                "file": with_mac(pending(before)).decode(),
            }
            for title, comment, before in (
                ("pending", "a rotation is under way: version 3 is on its way to the other end", full()),
                ("pending-rotated", "the same where the data key was rotated before", rotated()),
            )
        ),
    ]


def refused() -> list[dict[str, Any]]:
    good = with_mac(full())
    cases: list[dict[str, Any]] = []

    def case(reason: str, title: str, comment: str, data: bytes) -> None:
        cases.append({"name": title, "reason": reason, "comment": comment, "file": data.decode()})

    case("not-a-vault", "nothing", "no bytes at all", b"")
    case("not-a-vault", "truncated", "the last byte before the newline is missing", good[:-2])
    case("not-a-vault", "half", "half of it", good[: len(good) // 2])
    case("not-a-vault", "two", "one document behind the other", good + good)
    case("not-a-vault", "an-array", "an array around it", b"[" + good + b"]")
    case("not-a-vault", "unknown-member", "rightly signed, with a member more", with_mac(full() | {"later": 1}))
    deep = full()
    deep["secrets"]["db_password"]["later"] = 1
    case("not-a-vault", "unknown-member-inside", "the same inside a secret", with_mac(deep))
    less = full()
    del less["receipts"]
    case("not-a-vault", "missing-member", "rightly signed, without receipts", with_mac(less))
    mistyped = full() | {"generation": "42"}
    case("not-a-vault", "mistyped-member", "rightly signed, generation as text", with_mac(mistyped))
    case("not-a-vault", "no-mac", "no MAC", rfc8785.dumps(full()) + b"\n")
    case("other-format", "future-format", "rightly signed, of format 4", with_mac(full() | {"format": 4}))
    case("other-format", "format-zero", "rightly signed, of format 0", with_mac(full() | {"format": 0}))
    case("mac", "no-data-key", "of format 2 without its members", with_mac(full() | {"format": 2}))
    case("not-a-vault", "data-key-alone", "without the key of the receipts", with_mac(_without_receipts_key()))
    case("mac", "data-key-in-format-one", "of format 1 with a data key", with_mac(rotated() | {"format": 1}))
    case("mac", "nothing-pending", "of format 3, and nothing is pending", with_mac(full() | {"format": 3}))
    case(
        "mac",
        "pending-in-format-one",
        "of format 1 with a rotation under way",
        with_mac(pending(full()) | {"format": 1}),
    )
    case(
        "mac",
        "other-data-key",
        "another data key's id",
        with_mac(rotated()).replace(DATA_KEY.encode(), VAULT_ID.encode()),
    )
    case("mac", "edited", "the generation was raised", good.replace(b'"generation":42', b'"generation":43'))
    case("mac", "swapped", "two ciphertexts changed places", _swapped())
    case("mac", "space", "a space more", good.replace(b'"format":1', b'"format": 1'))
    case("mac", "without-newline", "the newline at the end is missing", good[:-1])
    case("mac", "two-newlines", "a newline more at the end", good + b"\n")
    case("mac", "escaped", "a letter as an escape", good.replace(b'"type":"password"', b'"type":"p\\u0061ssword"'))
    case("mac", "doubled-member", "a member twice, the second one as it was", b'{"generation":41,' + good[1:])
    case("mac", "other-order", "the same members in another order", _reordered(good))
    case("mac", "zero-mac", "a MAC of zeros", _mac_replaced(good, b64url(bytes(32))))
    case("mac", "short-mac", "one byte less", _mac_replaced(good, b64url(_raw(json.loads(good)["mac"])[:-1])))
    case("mac", "no-key", "a hash for a MAC", _mac_replaced(good, _plain_hash()))
    case("mac", "other-master", "the same vault under another master key", with_mac(full(), OTHER_MASTER))
    return cases


def _without_receipts_key() -> dict[str, Any]:
    document = rotated()
    del document["fingerprint_key"]
    return document


def _swapped() -> bytes:
    document = full()
    first, second = document["secrets"]["db_password"]["versions"]
    first["ciphertext"], second["ciphertext"] = second["ciphertext"], first["ciphertext"]
    return _mac_replaced(rfc8785.dumps(document | {"mac": ""}) + b"\n", json.loads(with_mac(full()))["mac"])


def _reordered(good: bytes) -> bytes:
    members = json.loads(good)
    return json.dumps({"vault_id": members.pop("vault_id"), **members}, separators=(",", ":")).encode() + b"\n"


def _mac_replaced(file: bytes, mac: str) -> bytes:
    return rfc8785.dumps(json.loads(file) | {"mac": mac}) + b"\n"


def _plain_hash() -> str:
    return b64url(hashlib.sha256(rfc8785.dumps(full())).digest())
