"""Files that the service manager hands over: systemd's credentials (docs/systemd.md).

They reach a daemon whose own user may not read the originals. systemd names their folder in
CREDENTIALS_DIRECTORY; nobody but the daemon's user and root can look into it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CONFIG: Final = "secretsd-config"
POLICY: Final = "secretsd-policy"
PASSPHRASE: Final = "secretsd-passphrase"  # noqa: S105 — a name


def find(name: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return where the credential `name` lies, None when there is none. One that may not be read is there."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / name
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except OSError:
        pass  # whoever opens it tells why it can't be read
    return path


def of_key(section: str, key: str) -> str:
    """Return the name of the credential that stands in for the file that a key of config.toml names."""
    return f"secretsd-{section}.{key}"
