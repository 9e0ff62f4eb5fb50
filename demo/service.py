"""A service as it could be yours: it holds a secret, and is told when the secret is another.

`python -m demo.service NAME` takes its connection from the environment (JARVIS_SECRETS_URL, …), writes one
JSON object a line for each thing it sees, and reads the secret again for each line on stdin; it ends with its
stdin. No value is ever printed.
"""

import json
import sys
import time

from secretsd_client import Secret, SecretsClient


def tell(what: str, secret: Secret, took_ns: int = 0) -> None:
    """Report a secret as it is now, with the time of the clock that all processes share."""
    report = {
        "what": what,
        "version": secret.version,
        "kid": secret.kid,
        "took_ns": took_ns,
        "at_ns": time.monotonic_ns(),
        "at_ms": time.time_ns() // 1_000_000,
    }
    # One write: the callback's thread and the main one share stdout.
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Hold the secret that argv names until stdin ends."""
    name = sys.argv[1]
    with SecretsClient.from_env() as client:
        client.on_change(name, lambda secret: tell("changed", secret))
        tell("fetched", client.get(name))
        for _ in sys.stdin:
            start = time.perf_counter_ns()
            secret = client.get(name)
            tell("read", secret, time.perf_counter_ns() - start)


if __name__ == "__main__":
    main()
