"""Distributions made for a test that bring kinds of rotators, the way another project would."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, source: str, **kinds: str) -> None:
    """Put a distribution into `folder`, which belongs on sys.path: a module with `source`, its classes by kind."""
    module = f"{folder.name.replace('-', '_')}_rotators"
    (folder / f"{module}.py").write_text(source)
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    points = "".join(f"{kind} = {module}:{name}\n" for kind, name in kinds.items())
    (about / "entry_points.txt").write_text(f"[secretsd.rotators]\n{points}")
