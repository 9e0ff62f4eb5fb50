"""What is needed to speak TLS to the daemon: whom to trust, and a certificate of our own."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from secretsd_client._errors import SecretsError, SecretsUnavailable

_Stamp = tuple[tuple[int, int, int], ...]


class Tls:
    """The files, read again when they change: a certificate is renewed while its service runs."""

    def __init__(self, url: str, *, ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> None:
        """Raise SecretsError for files that make no sense beside each other or with this URL."""
        if (cert_file is None) is not (key_file is None):
            raise SecretsError("the client's certificate and its key come together: give both files or neither")
        self._ca_file, self._cert_file, self._key_file = ca_file, cert_file, key_file
        self._files = [path for path in (ca_file, cert_file, key_file) if path is not None]
        self._is_tls = urlsplit(url).scheme == "https"
        if self._files and not self._is_tls:
            raise SecretsError("a CA file, a certificate and its key are for TLS: write the daemon's URL as https://…")
        self._context: ssl.SSLContext | None = None
        self._seen: _Stamp | None = None

    def context(self) -> ssl.SSLContext | bool:
        """Return what a connection needs now; True is Python's own choice of authorities, and no certificate.

        Raises SecretsUnavailable for files that can't be read, SecretsError for what is no certificate or key.
        Files that are just being replaced may not fit for a moment: what was read before still does.
        """
        if not self._files:
            return True
        failure: OSError | ValueError | None = None
        try:
            seen = tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in map(Path.stat, self._files))
            if seen != self._seen:
                self._context = self._load()
                self._seen = seen
        except (OSError, ValueError) as error:
            failure = error
        if self._context is not None:
            return self._context
        if isinstance(failure, ssl.SSLError) or not isinstance(failure, OSError):
            raise SecretsError(
                "the CA file, the client's certificate or its key is not what it should be: PEM, the key without a "
                "passphrase and that of the certificate"
            )
        raise SecretsUnavailable(f"{failure.filename or 'a file for TLS'} can't be read: {failure.strerror}")

    def why_hung_up(self) -> str:
        """Return what to add where the daemon hung up: with TLS 1.3 it says no more to a certificate it refuses."""
        if not self._is_tls:
            return ""
        if self._cert_file is None:
            return "; does it ask for a client certificate (JARVIS_CLIENT_CERT_FILE)?"
        return "; does it let this client certificate in?"

    def _load(self) -> ssl.SSLContext:
        for path in self._files:
            path.open("rb").close()  # the loader's error doesn't say which file is missing
        context = ssl.create_default_context(cafile=self._ca_file)
        if self._cert_file is not None:
            # Nobody is there to be asked for a passphrase: an empty one makes a wrapped key an error.
            context.load_cert_chain(self._cert_file, self._key_file, password="")
        return context
