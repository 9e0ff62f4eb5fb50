"""`python -m demo`: see `demo.tryout`."""

import sys


def _main() -> int:
    try:
        # Inside the `try`: Ctrl-C during the imports, too, ends without a traceback.
        from demo.tryout import main  # noqa: PLC0415 - see above

        return main()
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(_main())
