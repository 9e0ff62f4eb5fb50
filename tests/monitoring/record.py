"""Record incidents anew: `make incidents`, or `python -m tests.monitoring.record NAME…` for some of them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from tests.monitoring.recorder import write
from tests.monitoring.scenarios import INCIDENTS, scene

FOLDER: Final = Path(__file__).parent / "recorded"
MEMORY: Final = Path("/dev/shm")
"""Where a sync costs nothing: what it takes counts as so much more in a time that runs faster."""
AT_ONCE: Final = 3
TRIES: Final = 3


def recorded(name: str) -> str | None:
    """Record one incident until the rules judge it as it says; return why they don't, or None."""
    if MEMORY.is_dir():
        tempfile.tempdir = str(MEMORY)
    one = INCIDENTS[name]
    path = FOLDER / f"{name}.yml"
    for _ in range(TRIES):
        # A machine that is busy for a second is a minute of trouble here; then it is done again.
        try:
            with scene(one) as now:
                one.happens(now)
            write(path, now.record.written(name, one.what, one.factor))
        except AssertionError as error:
            said = f"{name}: {error}"
            continue
        judged = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
        if judged.returncode == 0:
            return None
        said = f"{name}: {judged.stdout}{judged.stderr}"
    return said


def main() -> None:
    """Record the incidents named in argv, else all."""
    names = sys.argv[1:] or list(INCIDENTS)
    with ProcessPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(recorded, names))
    for name, failed in zip(names, results, strict=True):
        sys.stdout.write(f"{name}: recorded\n" if failed is None else f"{failed}\n")
    sys.exit(any(results))


if __name__ == "__main__":
    main()
