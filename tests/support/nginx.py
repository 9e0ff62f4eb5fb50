"""A real nginx with files of its own, unprivileged ports, and a stream of requests that counts what fails."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import PATIENCE_SECS, eventually, free_port

PROGRAM = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

TEMPLATE = """\
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{}}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            add_header X-Token {token};
            return 204;
        }}
    }}
}}
"""
"""A configuration as a template of str.format: `token` is what secretsctl is to fill in."""

WITH_TLS = """\
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{}}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/site.crt;
        ssl_certificate_key {folder}/site.key;
        return 204;
    }}
}}
"""


class Nginx:
    """One nginx; its configuration is written by whoever tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.configuration = folder / "nginx.conf"
        self.check = f"{PROGRAM} -t -e {folder}/error.log -p {folder} -c {{}}"
        self.reload = f"{PROGRAM} -s reload -e {folder}/error.log -p {folder} -c {self.configuration}"

    def template(self, token: str) -> str:
        """Return a template of its configuration, which answers with `token` in a header."""
        return TEMPLATE.format(folder=self.folder, port=self.port, token=token)

    def write_tls(self) -> None:
        """Write a configuration that serves TLS with site.crt and site.key of its folder."""
        self.configuration.write_text(WITH_TLS.format(folder=self.folder, port=self.port))

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Have it serve what its configuration says now."""
        assert PROGRAM is not None
        command = [PROGRAM, "-e", self.folder / "error.log", "-p", self.folder, "-c", self.configuration]
        process = subprocess.Popen([*command, "-g", "daemon off;"])
        try:
            eventually(self._accepts, "nginx serves")
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_SECS)

    def _accepts(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECS):
            return True

    def certificate(self) -> str:
        """Return the certificate that it shows, as PEM."""
        return ssl.get_server_certificate(("127.0.0.1", self.port), timeout=PATIENCE_SECS)

    def token(self) -> str | None:
        """Return the header that it answers with."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECS)
        try:
            connection.request("GET", "/")
            return connection.getresponse().headers["X-Token"]
        finally:
            connection.close()

    def reloads(self) -> int:
        """Return how often it was reloaded."""
        return (self.folder / "error.log").read_text().count("(SIGHUP) received")


class Requests:
    """Requests one after the other on a thread until `end`; what they saw."""

    def __init__(self, nginx: Nginx) -> None:
        self._nginx = nginx
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answers: list[str | None] = []
        self.failures: list[Exception] = []
        self._thread.start()

    def _ask(self) -> None:
        while not self._end.wait(0.002):
            try:
                self.answers.append(self._nginx.token())
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(error)

    def end(self) -> None:
        """Stop asking."""
        self._end.set()
        self._thread.join()
