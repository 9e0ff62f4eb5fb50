"""The broker: whether it is there, whether it knows the daemon, and whether others can listen on the way."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from secretsd_bus import BusError, BusRejected, BusSettings

from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, failure, ok, warning


def reachable(context: Context) -> Finding:
    """See that a broker answers. One that refuses somebody answers too."""
    bus = context.bus
    refusal: BusError | None = context.anonymous_login
    if refusal is not None and not isinstance(refusal, BusRejected):
        # A broker that asks for a client's certificate hangs up on who has none.
        try:
            refusal = context.login
        except Skip:
            raise Skip(f"{refusal}; and this user may not try with the daemon's credentials") from None
    if refusal is None or isinstance(refusal, BusRejected):
        return ok(f"a broker answers at {bus.url}")
    return failure(
        f"{refusal}", "systemctl start mosquitto", f"or correct [bus] in {context.config_path}: url is {bus.url}"
    )


def login(context: Context) -> Finding:
    """See that the daemon's credentials work."""
    bus = context.bus
    if bus.password_file is not None and not bus.password_file.exists():
        return failure(
            f"bus.password_file {bus.password_file} doesn't exist",
            "secretsctl broker setup   # makes it, and the broker's side of it",
        )
    error = context.login
    if isinstance(error, BusRejected):
        return failure(
            f"{error}, as {bus.username or 'a client without a name'}",
            "secretsctl broker setup   # gives the broker the password in bus.password_file, or makes one",
            "systemctl reload mosquitto",
        )
    if error is not None:
        raise Skip("no broker answers")
    if bus.username is None and bus.cert_file is None:
        return warning(
            "the broker lets the daemon in without credentials, so it can't tell it from others",
            f"secretsctl broker setup --config {context.config_path}   # says what to put into [bus]",
        )
    return ok(f"the broker knows {bus.username or 'the certificate ' + str(bus.cert_file)}")


def tls(context: Context) -> Finding:
    """See that a password doesn't cross a network in the clear."""
    return judge_tls(context.bus)


def judge_tls(bus: BusSettings) -> Finding:
    """Judge the way to the broker."""
    if bus.tls:
        return ok("the connection is encrypted")
    if _is_local(bus.host):
        return ok(f"{bus.host} is this machine")
    return warning(
        f"the connection to {bus.host} is not encrypted: password, names and times cross the network in the clear",
        "give the broker a TLS listener and write the url as mqtts:// (docs/broker.md, TLS)",
    )


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


CHECKS: Final = (
    Check("broker", "Does the broker answer?", reachable),
    Check("broker-login", "Do the daemon's credentials work there?", login),
    Check("broker-tls", "Is the way to the broker encrypted, or this machine's own?", tls),
)
