"""Certificates of clients: issued by an authority, or self-signed; as files, and as a TLS client presents them."""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@dataclass(frozen=True)
class Certified:
    """A certificate with its key, in two files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: Path
    key_file: Path

    @property
    def sha256(self) -> str:
        """The fingerprint, as the policy has it."""
        return hashlib.sha256(self.certificate.public_bytes(Encoding.DER)).hexdigest()

    def presented_to(self, authority: Path) -> ssl.SSLContext:
        """Return a client's context that presents it to a server of `authority`."""
        context = ssl.create_default_context(cafile=str(authority))
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


def certified(
    folder: Path,
    name: str,
    *,
    by: Certified | None = None,
    subject: str | None = None,
    sans: tuple[x509.GeneralName, ...] = (),
    ca: bool = False,
    lasts: dt.timedelta = dt.timedelta(days=60),
) -> Certified:
    """Write `{name}.pem` and `{name}.key`; signed by itself unless an authority is given; begun an hour ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name.from_rfc4514_string(subject or f"CN={name}")
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + lasts)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    made = builder.sign(key if by is None else by.key, hashes.SHA256())
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files[1].chmod(0o600)
    return Certified(made, key, *files)
