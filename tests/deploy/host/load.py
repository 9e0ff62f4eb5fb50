"""Load on a daemon, with nothing but the standard library: it runs in a machine that has nothing else.

    load.py URL NAME TOKEN_FILE STOP_FILE

Reads and replaces the secret NAME in turn until STOP_FILE exists, and prints as JSON what was acknowledged: the last
value written, the request ids of all answers with 200, and how many connections were refused or broken.
"""

import http.client
import json
import pathlib
import sys

host, name, token_file, stop_file = sys.argv[1:]
HEADERS = {
    "X-Jarvis-Client": "admin",
    "Authorization": f"Bearer {pathlib.Path(token_file).read_text().strip()}",
    "Content-Type": "application/json",
}


def main() -> None:
    """Load until told to stop, then say what it came to."""
    written = ""
    acknowledged: list[str] = []
    refused = broken = number = 0
    connection = http.client.HTTPConnection(host, timeout=60)
    while not pathlib.Path(stop_file).exists():
        number += 1
        value = f"value-{number}"
        method, body = ("PUT", json.dumps({"value": value})) if number % 2 else ("GET", None)
        try:
            connection.request(method, f"/secret/{name}", body, HEADERS)
            answer = connection.getresponse()
            answer.read()
        except ConnectionRefusedError:
            refused += 1
            connection.close()
        except (OSError, http.client.HTTPException):
            broken += 1
            connection.close()
        else:
            if answer.status == 200:
                acknowledged.append(answer.headers["X-Request-Id"])
                written = value if body else written
        if number == 20:
            pathlib.Path(f"{stop_file}.going").touch()
    json.dump({"written": written, "acknowledged": acknowledged, "refused": refused, "broken": broken}, sys.stdout)


main()
