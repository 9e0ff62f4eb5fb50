"""A service as it could be yours: it holds one secret, drops the old value when it is told, and ends on SIGTERM.

`service.py NAME` takes its connection from the environment (JARVIS_SECRETS_URL, JARVIS_CLIENT_ID, …) and writes
one JSON object a line. No value is ever printed.
"""

import json
import signal
import sys
import threading

from secretsd_client import Secret, SecretNotFound, SecretsClient, SecretsUnavailable

RETRY_SECS = 2.0


def tell(what: str, name: str, **more: object) -> None:
    """Report what happened; one write, since the callback's thread and the main one share stdout."""
    sys.stdout.write(json.dumps({"what": what, "name": name, **more}) + "\n")
    sys.stdout.flush()


def first(client: SecretsClient, name: str, stop: threading.Event) -> Secret | None:
    """Return the secret as soon as there is one, None when the service is stopped before."""
    while True:
        try:
            return client.get(name)
        except (SecretNotFound, SecretsUnavailable) as reason:
            tell("waiting", name, why=type(reason).__name__)
        if stop.wait(RETRY_SECS):
            return None


def main() -> None:
    """Hold the secret that argv names until SIGTERM."""
    name = sys.argv[1]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with SecretsClient.from_env() as client:
        secret = first(client, name, stop)
        if secret is not None:
            client.on_change(name, lambda new: tell("changed", name, version=new.version, kid=new.kid))
            tell("fetched", name, version=secret.version, kid=secret.kid)
            stop.wait()
    tell("stopped", name)


if __name__ == "__main__":
    main()
