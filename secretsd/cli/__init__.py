"""secretsctl, the operator's command (docs/secretsctl.md). One file a group of commands; `app` knows them all."""

from __future__ import annotations


def main() -> None:
    """Run secretsctl and end the process: 0 done, 1 refused or failed, 2 usage, 3 daemon not reachable."""
    from secretsd import dumps  # noqa: PLC0415 — importing this package must stay cheap
    from secretsd.cli import streams  # noqa: PLC0415 — as above
    from secretsd.cli.app import root  # noqa: PLC0415 — as above

    dumps.forbid()  # what can't be is left: it is the user's own process
    streams.prepare()
    root.main(prog_name="secretsctl")
