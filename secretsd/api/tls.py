"""The TLS context of the TCP listener."""

from __future__ import annotations

import ssl

from secretsd.config import Server as ServerSettings
from secretsd.errors import ListenError


def context(settings: ServerSettings) -> ssl.SSLContext | None:
    """Return a context from the files as they are now, None where TLS is off. Raises ListenError.

    TLS 1.2 is the least. With `tls_client_ca` only clients with a certificate of that authority get as far as
    sending a request.
    """
    if settings.tls_cert is None:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.set_alpn_protocols(["http/1.1"])
    try:
        # Nobody is there to be asked for a passphrase: an empty one makes a wrapped key an error.
        made.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (OSError, ValueError) as error:
        raise ListenError(
            f"server.tls_cert {settings.tls_cert} and tls_key: {_why(error)};"
            " a PEM chain and its key without a passphrase are needed"
        ) from error
    if settings.tls_client_ca is not None:
        try:
            made.load_verify_locations(settings.tls_client_ca)
        except (OSError, ValueError) as error:
            raise ListenError(
                f"server.tls_client_ca {settings.tls_client_ca}: {_why(error)}; a PEM file of certificates"
            ) from error
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def _why(error: OSError | ValueError) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else type(error).__name__
