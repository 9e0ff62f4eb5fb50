"""One entry of `clients`."""

from __future__ import annotations

import hashlib
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Final

from yaml.nodes import MappingNode, Node, ScalarNode

from secretsd.config.reader import shown
from secretsd.model import NEVER_MS, Capability, is_name
from secretsd.policy import document as d
from secretsd.policy.certificate import CERTIFICATE_KEYS, parse_mark
from secretsd.policy.names import NameSet, is_pattern
from secretsd.policy.rules import (
    CAPABILITIES,
    NEVER_BY_DEFAULT,
    SCHEDULE,
    CertificateProof,
    ClientRule,
    Proof,
    SocketProof,
    TokenProof,
    UidProof,
)

MAX_UID: Final = 2**32 - 2
"""The largest uid there is; one more stands for none."""

_KEYS: Final = ("allow", "deny", "can", "auth", "consumer")
_WITHOUT_END: Final = ("uid", "socket")
_PROOF_KEYS: Final = ("token_sha256", *_WITHOUT_END, *CERTIFICATE_KEYS, "not_after")
_PROOFS: Final = "{token_sha256, not_after?}, {uid}, {socket} or {cert_sha256 | cert_subject | cert_san, not_after?}"
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
_NO_TOKEN: Final = frozenset(hashlib.sha256(nothing).hexdigest() for nothing in (b"", b"\n", b"\r\n"))


def parse_client(name: str, key: ScalarNode, node: Node, findings: d.Findings) -> ClientRule | None:
    """Return what `node` says of the client `name`; what is wrong and what is doubtful goes to `findings`."""
    if not is_name(name):
        findings.note(
            key,
            "clients",
            f"{shown(name)} can't be a client's name; allowed: letters, digits, dot, underscore, hyphen, "
            "a letter or digit first, at most 128",
        )
        return None
    if name == SCHEDULE:
        findings.note(key, "clients", f"{SCHEDULE} is the name of the daemon's own schedule; call the client otherwise")
        return None
    where = f"clients.{name}"
    allow: list[str] = []
    deny: list[str] = []
    can: frozenset[Capability] | None = None
    auth: list[Proof] = []
    consumer = True
    for member, member_key, value in d.entries(node, where, findings):
        if member == "allow":
            allow = _patterns(value, f"{where}.allow", findings)
        elif member == "deny":
            deny = _patterns(value, f"{where}.deny", findings)
        elif member == "can":
            can = _capabilities(value, f"{where}.can", findings)
        elif member == "auth":
            auth = _proofs(value, f"{where}.auth", findings)
        elif member == "consumer":
            consumer = _consumer(value, f"{where}.consumer", findings)
        else:
            d.unknown_key(member_key, where, _KEYS, findings)
    if can is None:
        can = _default_capabilities(where, allow, findings)
    _warn_of_no_proof(where, auth, findings)
    return ClientRule(allow=NameSet(allow), deny=NameSet(deny), can=can, auth=tuple(auth), consumer=consumer)


def _consumer(node: Node, where: str, findings: d.Findings) -> bool:
    meaning = d.boolean_of(node)
    if meaning is None:
        findings.misfit(node, where, "true or false")
    return meaning is not False


def _warn_of_no_proof(where: str, auth: list[Proof], findings: d.Findings) -> None:
    if not auth:
        findings.warnings.append(
            f"{where} has no auth: the header alone names it, so every process on this machine can be it; "
            "give it a token_sha256, a uid, a socket or a certificate"
        )


def _default_capabilities(where: str, allow: list[str], findings: d.Findings) -> frozenset[Capability]:
    if allow != ["*"]:
        return frozenset({"read"})
    findings.warnings.append(
        f"{where} has no can and may do everything but operate the daemon (admin), because its allow is exactly "
        f'["*"]; write can: [{", ".join(one for one in CAPABILITIES if one not in NEVER_BY_DEFAULT)}] if that is meant'
    )
    return frozenset(CAPABILITIES) - NEVER_BY_DEFAULT


def _patterns(node: Node, where: str, findings: d.Findings) -> list[str]:
    patterns = []
    for item in d.items(node, where, findings):
        pattern = d.text_of(item)
        if pattern is None:
            findings.misfit(item, where, "names or globs in quotes")
        elif not is_pattern(pattern):
            findings.note(
                item,
                where,
                f"no name matches {shown(pattern)}; allowed: a name (letters, digits, dot, underscore, "
                "hyphen; a letter or digit first), * for any characters, ? for one",
            )
        else:
            patterns.append(pattern)
    return patterns


def _capabilities(node: Node, where: str, findings: d.Findings) -> frozenset[Capability]:
    if d.is_nothing(node):
        findings.note(node, where, "nothing is listed; write [] if the client may do nothing, or leave can out")
        return frozenset()
    held: set[Capability] = set()
    for item in d.items(node, where, findings):
        word = d.text_of(item)
        capability = next((one for one in CAPABILITIES if one == word), None)
        if capability is not None:
            held.add(capability)
        elif word is None:
            findings.misfit(item, where, ", ".join(CAPABILITIES))
        else:
            findings.note(item, where, f"there is no {shown(word)}; allowed: {', '.join(CAPABILITIES)}")
    return frozenset(held)


def _proofs(node: Node, where: str, findings: d.Findings) -> list[Proof]:
    if d.is_nothing(node):
        findings.note(node, where, "nothing is listed; write [] if the header alone is to name the client")
        return []
    proofs = (_proof(item, where, findings) for item in d.items(node, where, findings))
    return [proof for proof in proofs if proof is not None]


def _proof(node: Node, where: str, findings: d.Findings) -> Proof | None:
    members: dict[str, Node] = {}
    if not isinstance(node, MappingNode):
        findings.misfit(node, where, _PROOFS)
        return None
    for member, member_key, value in d.entries(node, where, findings):
        if member in _PROOF_KEYS:
            members[member] = value
        else:
            d.unknown_key(member_key, where, _PROOF_KEYS, findings)
            return None
    not_after = members.pop("not_after", None)
    kind = next(iter(members), "")
    if len(members) != 1 or (kind in _WITHOUT_END and not_after is not None):
        findings.note(node, where, f"an entry is {_PROOFS}; two proofs are two entries")
        return None
    until = None if not_after is None else _instant(not_after, f"{where}.not_after", findings)
    there = f"{where}.{kind}"
    if kind in _WITHOUT_END:
        return (_uid if kind == "uid" else _socket)(members[kind], there, findings)
    if kind == "token_sha256":
        digest = _digest(members[kind], there, findings)
        return None if digest is None else TokenProof(digest, until)
    mark = parse_mark(kind, members[kind], there, findings)
    return None if mark is None else CertificateProof(mark, until)


def _digest(node: Node, where: str, findings: d.Findings) -> bytes | None:
    """Return the SHA-256 that `node` gives. No message repeats it: by mistake it may be the token itself."""
    text = d.text_of(node, also=("int", "float"))
    if text is None or not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        findings.note(
            node,
            where,
            "allowed: the SHA-256 of the token as 64 hex digits, never the token itself",
        )
        return None
    if text.lower() in _NO_TOKEN:
        findings.note(node, where, "this is the SHA-256 of an empty token; hash the token itself")
        return None
    return bytes.fromhex(text)


def _instant(node: Node, where: str, findings: d.Findings) -> int | None:
    text = d.text_of(node, also=("timestamp",))
    if text is not None and _TIME.match(text):
        try:
            milliseconds = int(datetime.fromisoformat(text.upper()).timestamp() * 1000)
        except (ValueError, OverflowError):
            pass
        else:
            return min(milliseconds, NEVER_MS)
    findings.misfit(node, where, 'a time with its zone, as in "2027-01-01T00:00:00Z"')
    return None


def _uid(node: Node, where: str, findings: d.Findings) -> UidProof | None:
    uid = d.integer_of(node)
    if uid is None or uid > MAX_UID:
        findings.misfit(node, where, f"a user's number from 0 to {MAX_UID} (id -u NAME)")
        return None
    return UidProof(uid)


def _socket(node: Node, where: str, findings: d.Findings) -> SocketProof | None:
    """Return the socket; its path is spelled in one way only, so that no two entries mean the same file."""
    text = d.text_of(node)
    if text is None or not text.startswith("/") or os.path.normpath(text) != text or text.startswith("//"):
        findings.misfit(node, where, "an absolute path without . and .. in it")
        return None
    return SocketProof(Path(text))
