from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.host.machine import unavailable
from tests.deploy.host.wheels import wheelhouse


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the installer installs; skipped where no machine can be booted."""
    reason = unavailable()
    if reason is not None:
        pytest.skip(reason)
    return wheelhouse(tmp_path_factory.mktemp("wheels"))
