from __future__ import annotations

import pytest

from secretsd.crypto import masterkey
from tests.unit.crypto.test_masterkey import Cheap


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No passphrase, no service manager, and little memory for Argon2id."""
    for name in ("SECRETSD_PASSPHRASE_FILE", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(masterkey, "Argon2Parameters", Cheap)
