"""The show: a secret fetched, rotated, announced and dropped from a live client's cache."""

import time

from demo.api import Api
from demo.broker import Broker
from demo.errors import TryoutError
from demo.live import Ears, LiveService, Report, within
from demo.place import SERVICE, Place, shown
from demo.telling import Teller

SECRET = "postgres_password"  # noqa: S105 - a name, no password
FORBIDDEN = "brave_api_key"
GREETING = "greeting"

# Without a value: made by the daemon, by the built-in rule for such a name. `greeting` is there to be seen.
SAMPLES: tuple[dict[str, str], ...] = (
    {"name": SECRET},
    {"name": "jwt_signing_key"},
    {"name": FORBIDDEN, "value": "a-sample-of-a-key-issued-elsewhere"},
    {"name": GREETING, "value": "hello from the vault"},
)


async def fill(api: Api) -> None:
    """Put the samples into the vault, save those that are there from last time."""
    for sample in SAMPLES:
        status, answer = await api.call("POST", "/secret", sample)
        if status not in {201, 409}:
            raise TryoutError(f"secretsd did not take {sample['name']}: {status} {answer}")


async def show(teller: Teller, api: Api, service: LiveService, ears: Ears, fetched: Report) -> None:
    """Rotate under the live service and tell what followed, in milliseconds after the request."""
    cached = await service.read()
    teller.step(
        "fetched",
        f"{SECRET}, by a live service in a process of its own: version {fetched.version}, kid {fetched.kid}",
        f"a second read came from its cache, in {cached.took_ns / 1000:.1f} µs",
    )

    announced = ears.heard.expect(lambda heard: heard.event.type == "secret.rotated" and heard.event.subject == SECRET)
    dropped = service.seen.expect(lambda report: report.what == "changed" and report.version > fetched.version)
    start = time.monotonic_ns()
    answer = await api.must("POST", "/rotate", {"names": [SECRET], "reason": "shown by make run"})
    answered = time.monotonic_ns()
    (rotated,) = answer["rotated"]
    event = await within(announced, "the event of the rotation")
    change = await within(dropped, "the live service's callback")
    after = await service.read()
    if after.kid != rotated["kid"]:
        raise TryoutError(f"the live service still reads kid {after.kid}, not {rotated['kid']}: please report this")

    previous = rotated["previous"]
    teller.step(
        "rotated",
        f"by POST /rotate: version {rotated['version']}, on disk and answered after {_ms(start, answered)}",
        f"version {previous['version']} stays readable until {previous['grace_until'][:10]}",
    )
    teller.step(
        "announced",
        f"after {_ms(start, event.at_ns)} on {event.topic}",
        f"line {event.event.sequence} of the audit log; signature by key {event.event.keyid}: verified",
    )
    teller.step(
        "dropped",
        f"from the live cache: its callback ran {_ms(start, change.at_ns)} after the request",
        f"the service now reads version {after.version}, kid {after.kid}",
    )

    denied = ears.heard.expect(lambda heard: heard.event.type == "access.denied")
    status, _ = await api.call("GET", f"/secret/{FORBIDDEN}", client=SERVICE)
    await within(denied, "the event of the refusal")
    teller.step(
        "refused", f"{FORBIDDEN} to {SERVICE}, whose policy doesn't list it: {status}", "announced as access.denied"
    )


def try_next(teller: Teller, place: Place, broker: Broker) -> None:
    """Offer commands that work as they stand, in another terminal in this folder."""
    headers, audit = shown(place.headers("admin")), shown(place.audit)
    commands = [
        (f". {shown(place.env)}", "address, client and token for what follows"),
        ("secretsctl ls", "what is in the vault; never values"),
        (f"secretsctl rotate {SECRET}", "the live service is told again"),
        (f'curl -sS -H @{headers} "$JARVIS_SECRETS_URL/secret/{GREETING}"', "a value, over HTTP"),
        ("secretsctl tail", "the bus, verified"),
        (f"secretsctl audit verify {audit}", "the signed log, offline"),
    ]
    if broker.kind != "yours":
        listen = f'mosquitto_sub -L "$JARVIS_MQTT_URL/{broker.settings.topic_prefix}/#" -v'
        commands.append((listen, "the bus, as it is (package mosquitto-clients)"))
    teller.line()
    teller.line("Try next, in another terminal here; what happens shows up below too:", "bold")
    teller.commands(commands)
    teller.line()


def _ms(start_ns: int, end_ns: int) -> str:
    return f"{(end_ns - start_ns) / 1e6:.1f} ms"
