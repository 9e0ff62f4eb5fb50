"""The TLS of the TCP listener: its certificate, and whose certificates it takes from clients (docs/configuration.md).

OpenSSL lets a client's certificate through only under a trust anchor, and Python has no way around that. So a client
without an authority of its own lays its certificate itself down, in `tls_client_certs`, where it is its own anchor.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from secretsd import files
from secretsd.config import Server as ServerSettings
from secretsd.errors import ListenError

Stamp = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose client certificates are let in: the SHA-256 of each anchor, authorities and single ones apart."""

    authorities: frozenset[bytes] = frozenset()
    pinned: frozenset[bytes] = frozenset()

    def kept_by(self, later: Trust) -> bool:
        """Tell whether all that was trusted here still is."""
        return self.authorities <= later.authorities and self.pinned <= later.pinned


NO_TRUST: Final = Trust()


def context(settings: ServerSettings) -> tuple[ssl.SSLContext | None, Trust]:
    """Return a context from the files as they are now, None where TLS is off, and whom it trusts.

    TLS 1.2 is the least. Raises ListenError, which names the file.
    """
    if settings.tls_cert is None:
        return None, NO_TRUST
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.set_alpn_protocols(["http/1.1"])
    try:
        for path in filter(None, (settings.tls_cert, settings.tls_key)):
            files.read_regular(path)  # OpenSSL would wait for a named pipe
        # Nobody is there to be asked for a passphrase: an empty one makes a wrapped key an error.
        made.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (OSError, ValueError) as error:
        raise ListenError(
            f"server.tls_cert {settings.tls_cert} and tls_key: {_why(error)};"
            " a PEM chain and its key without a passphrase are needed"
        ) from error
    if not settings.asks_for_certificates:
        return made, NO_TRUST
    authorities, pinned = _authorities(settings.tls_client_ca), _pinned(settings.tls_client_certs)
    anchors = [*authorities, *pinned]
    if anchors:
        made.load_verify_locations(cadata=b"".join(one.public_bytes(Encoding.DER) for one in anchors))
    # An anchor needn't be a root: one's own intermediate authority may be, and a single certificate is its own.
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    made.verify_mode = ssl.CERT_REQUIRED if settings.tls_client_required else ssl.CERT_OPTIONAL
    return made, Trust(_digests(authorities), _digests(pinned))


def stamp(settings: ServerSettings) -> Stamp:
    """Return what changes when one of the files does."""
    paths: list[Path] = [
        path
        for path in (settings.tls_cert, settings.tls_key, settings.tls_client_ca, settings.tls_client_certs)
        if path is not None
    ]
    if settings.tls_client_certs is not None:
        paths += pem_files(settings.tls_client_certs)
    return tuple(_stamp_of(path) for path in paths)


def _stamp_of(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return (path, None)
    return (path, status.st_ino, status.st_mtime_ns, status.st_size)


def _authorities(path: Path | None) -> list[x509.Certificate]:
    if path is None:
        return []
    found = _read(path, "tls_client_ca")
    if not all(map(_may_sign, found)):
        raise ListenError(
            f"server.tls_client_ca {path}: a certificate in it is no authority's (CA:TRUE); clients' own go into "
            "tls_client_certs"
        )
    return found


def _pinned(path: Path | None) -> list[x509.Certificate]:
    """Return the single certificates; one that could sign others would let in whoever its owner likes."""
    if path is None:
        return []
    found = [one for file in pem_files(path) for one in _read(file, "tls_client_certs")]
    if any(map(_may_sign, found)):
        raise ListenError(
            f"server.tls_client_certs {path}: a certificate in it may sign others; an authority goes into "
            "tls_client_ca, a client's own is made with -addext basicConstraints=critical,CA:FALSE"
        )
    return found


def pem_files(path: Path) -> list[Path]:
    """Return the files that `tls_client_certs` stands for: itself, or those in the folder."""
    return sorted(path.glob("*.pem")) if path.is_dir() else [path]


def _read(path: Path, key: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(files.read_regular(path))
    except (OSError, ValueError) as error:
        raise ListenError(f"server.{key} {path}: {_why(error)}; a PEM file of certificates is needed") from error


def _may_sign(certificate: x509.Certificate) -> bool:
    """Tell whether the certificate may vouch for others; one that doesn't say may, as OpenSSL sees it."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return True


def _digests(certificates: Iterable[x509.Certificate]) -> frozenset[bytes]:
    return frozenset(hashlib.sha256(one.public_bytes(Encoding.DER)).digest() for one in certificates)


def _why(error: OSError | ValueError) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else type(error).__name__
