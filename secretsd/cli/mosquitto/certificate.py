"""The broker's certificate and its key, looked at before Mosquitto does, which would not start with wrong ones."""

from __future__ import annotations

import os
import pwd
import ssl
import subprocess
from pathlib import Path
from typing import Final

from secretsd import files
from secretsd.cli.errors import Failed

_GIVE: Final = "give --broker-cert (a PEM chain) and --broker-key (its key, without a passphrase)"


def refuse_unusable(cert: Path, key: Path, user: str) -> None:
    """Raise Failed for what is no certificate and its key, or can't be read by `user`, whom Mosquitto becomes."""
    try:
        for path in (cert, key):
            files.read_regular(path)  # OpenSSL would wait for a named pipe
        # Mosquitto has nobody to ask for a passphrase either: an empty one makes a wrapped key an error.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError):
        raise Failed(
            f"{cert} and {key} aren't a certificate and its key: Mosquitto would not start", hint=_GIVE
        ) from None
    except PermissionError as error:
        raise Failed(f"{error.filename} can't be read", hint="run this as root") from None
    except OSError as error:
        raise Failed(f"{error.filename} can't be used: {error.strerror}", hint=_GIVE) from None
    for path in (cert, key):
        if not _readable(path, user):
            raise Failed(
                f"{path} can't be read by {user}, the user that Mosquitto becomes: it would not start",
                hint=f"copy it to where {user} may read it, /etc/mosquitto/certs for example: "
                f"owner root, group {user}, mode 0640",
            )


def _readable(path: Path, user: str) -> bool:
    """Ask the kernel as `user`, since modes don't tell all; True where that can't be asked."""
    if os.geteuid() != 0:
        return True
    try:
        account = pwd.getpwnam(user)
        asked = subprocess.run(  # noqa: S603 — an operator's path, and no shell
            ["test", "-r", path],  # noqa: S607 — wherever the system has it
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=os.getgrouplist(user, account.pw_gid),
            check=False,
        )
    except (KeyError, OSError):
        return True
    return asked.returncode == 0
