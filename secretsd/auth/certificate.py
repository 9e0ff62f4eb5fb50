"""What the certificate of a TLS connection says of who is at the other end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from secretsd.policy import CertificateMark


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate whose key the peer has, as its handshake showed. Instants are epoch milliseconds.

    `marks` are what a policy may call it by: its SHA-256 in every case, its names only where an authority vouches
    for them.
    """

    marks: frozenset[CertificateMark]
    not_before_ms: int
    not_after_ms: int

    def valid(self, now_ms: int) -> bool:
        """Tell whether the certificate is valid now; it may have run out since the handshake."""
        return self.not_before_ms <= now_ms < self.not_after_ms


def read_certificate(der: bytes, pinned: frozenset[bytes]) -> ClientCertificate | None:
    """Return what a certificate that the handshake has verified proves, None where it can't be read.

    `pinned` are the SHA-256 of the certificates that are trusted as themselves only: whoever made such a one wrote
    into it whatever name he liked.
    """
    digest = hashlib.sha256(der).digest()
    marks: set[CertificateMark] = {("sha256", digest.hex())}
    try:
        certificate = x509.load_der_x509_certificate(der)
        if digest not in pinned:
            marks |= _names(certificate)
        return ClientCertificate(
            frozenset(marks), _ms(certificate.not_valid_before_utc), _ms(certificate.not_valid_after_utc)
        )
    except ValueError:
        return None


def _names(certificate: x509.Certificate) -> set[CertificateMark]:
    names: set[CertificateMark] = {("subject", certificate.subject.rfc4514_string())}
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return names
    names |= {("san", f"DNS:{name.lower()}") for name in alternatives.get_values_for_type(x509.DNSName)}
    names |= {("san", f"URI:{name}") for name in alternatives.get_values_for_type(x509.UniformResourceIdentifier)}
    return names


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
