"""What an entry of `auth` says of a client certificate."""

from __future__ import annotations

import re
from typing import Final

from cryptography import x509
from yaml.nodes import Node

from secretsd.policy import document as d
from secretsd.policy.rules import CertificateMark

CERTIFICATE_KEYS: Final = ("cert_sha256", "cert_subject", "cert_san")

_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}")
_ALTERNATIVE: Final = re.compile(r"(DNS:)([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)|(URI:)([\x21-\x7e]+)", re.ASCII)


def parse_mark(kind: str, node: Node, where: str, findings: d.Findings) -> CertificateMark | None:
    """Return what `node`, the value of the key `kind`, says; what can't be used goes to `findings`."""
    if kind == "cert_sha256":
        return _sha256(node, where, findings)
    if kind == "cert_subject":
        return _subject(node, where, findings)
    return _alternative(node, where, findings)


def _sha256(node: Node, where: str, findings: d.Findings) -> CertificateMark | None:
    text = d.text_of(node, also=("int", "float"))
    if text is None or not _DIGEST.fullmatch(text):
        findings.note(
            node,
            where,
            "allowed: the SHA-256 of the certificate as 64 hex digits, with or without colons "
            "(openssl x509 -noout -fingerprint -sha256 -in FILE)",
        )
        return None
    return "sha256", text.replace(":", "").lower()


def _subject(node: Node, where: str, findings: d.Findings) -> CertificateMark | None:
    text = d.text_of(node)
    try:
        subject = x509.Name.from_rfc4514_string(text or "").rfc4514_string()
    except ValueError:
        subject = ""
    if not subject:
        findings.note(
            node,
            where,
            'allowed: the whole subject as RFC 4514 writes it, as in "CN=backend,O=home" '
            "(openssl x509 -noout -subject -nameopt RFC2253 -in FILE)",
        )
        return None
    return "subject", subject


def _alternative(node: Node, where: str, findings: d.Findings) -> CertificateMark | None:
    text = d.text_of(node)
    match = None if text is None else _ALTERNATIVE.fullmatch(text)
    if match is None:
        findings.note(node, where, 'allowed: one name as in "DNS:backend.lan" or "URI:spiffe://home/backend"')
        return None
    return "san", "DNS:" + match[2].lower() if match[1] else match[3] + match[4]
