"""broker: the MQTT broker set up for secretsd."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import click

from secretsd import policy as policies
from secretsd.cli.errors import Failed
from secretsd.cli.mosquitto.files import Planned
from secretsd.cli.mosquitto.plan import PASSWORDS, Places, Plan, Wishes, names_in, work_out
from secretsd.cli.options import Commands, Settings, config_option, json_option
from secretsd.cli.output import emit_json, print_table
from secretsd.cli.terminal import note
from secretsd.config import Config, load
from secretsd.errors import SecretsdError
from secretsd.model import is_name

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER: Final = click.Path(file_okay=False, path_type=Path)


class _Listen(click.ParamType[tuple[str, int]]):
    """`ADDRESS:PORT`, the address in brackets where it is one of IPv6."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        host, _, port = str(value).rpartition(":")
        try:
            address, number = ip_address(host.removeprefix("[").removesuffix("]")), int(port)
        except ValueError:
            number = 0
        if not 0 < number < 65_536:
            self.fail("an IP address and a port, as in 127.0.0.1:1883 or [::1]:1883", param, ctx)
        return str(address), number


class _User(click.ParamType[str]):
    """A user of the broker, named as clients are."""

    name = "user"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_name(str(value)):
            self.fail("letters, digits, dot, underscore, hyphen; a letter or digit first; at most 128", param, ctx)
        return str(value)


@click.group(cls=Commands)
def broker() -> None:
    """Look after the MQTT broker."""


@broker.command
@config_option()
@click.option(
    "--listener-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("/etc/mosquitto/conf.d/jarvis.conf"),
    show_default=True,
    metavar="FILE",
    help="Mosquitto's configuration for it, in an include_dir.",
)
@click.option(
    "--dir",
    "folder",
    type=_FOLDER,
    default=Path("/etc/mosquitto/jarvis"),
    show_default=True,
    metavar="DIR",
    help="Where Mosquitto's ACL and password file go.",
)
@click.option(
    "--password-dir",
    type=_FOLDER,
    metavar="DIR",
    help="Where each client's password goes, as NAME.password. Default: mqtt/ beside the configuration.",
)
@click.option(
    "--listen",
    type=_Listen(),
    metavar="ADDR:PORT",
    help="Where Mosquitto listens. Default: as bus.url says, which beyond loopback takes TLS.",
)
@click.option(
    "--broker-cert", type=_FILE, metavar="PEM", help="The broker's certificate, for mqtts://; readable by its user."
)
@click.option("--broker-key", type=_FILE, metavar="PEM", help="Its key.")
@click.option(
    "--homeassistant-user",
    type=_User(),
    metavar="NAME",
    help="Home Assistant's user at the broker, with its rights; later runs keep it.",
)
@click.option("--no-homeassistant-user", is_flag=True, help="Take Home Assistant's user out of the ACL again.")
@click.option(
    "--renew", type=_User(), multiple=True, metavar="NAME", help="Give this user a new password; may be repeated."
)
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be written, write nothing.")
@json_option
@click.pass_obj
def setup(
    settings: Settings,
    config: Path,
    listener_file: Path,
    folder: Path,
    password_dir: Path | None,
    listen: tuple[str, int] | None,
    broker_cert: Path | None,
    broker_key: Path | None,
    homeassistant_user: str | None,
    renew: tuple[str, ...],
    *,
    no_homeassistant_user: bool,
    dry_run: bool,
) -> None:
    """Write Mosquitto's listener, passwords and ACL, as the policy says.

    Who may read a secret may read its topics, who may audit the audit's; only the daemon writes. Globs of the policy
    stand for the secrets that exist: run this again when the policy changes, or a glob matches a new secret. Passwords
    that are there are kept. Nothing is restarted: what is to be done next is said.
    """
    if (broker_cert is None) is not (broker_key is None):
        raise click.UsageError("--broker-cert and --broker-key go together")
    if no_homeassistant_user:
        if homeassistant_user is not None:
            raise click.UsageError("--homeassistant-user and --no-homeassistant-user say the opposite")
        homeassistant_user = ""
    try:
        loaded = load(config)
        policy = policies.load(loaded.security.rbac_policy_path, loaded)
    except SecretsdError as error:
        raise Failed(str(error)) from None
    if not loaded.bus.enabled:
        raise Failed("bus.enabled is false: there is no broker", hint=f"set it to true in {loaded.source}")
    places = Places(
        listener_file.absolute(), folder.absolute(), (password_dir or loaded.source.parent / PASSWORDS).absolute()
    )
    # As they are named: certbot's names are links, which another file is behind after a renewal.
    cert, key = (None if one is None else one.absolute() for one in (broker_cert, broker_key))
    wishes = Wishes(listen, cert, key, homeassistant_user, renew)
    plan = work_out(loaded, policy, names_in(loaded.paths.vault_path), places, wishes)
    if not dry_run:
        _write(plan)
    steps = list(_next(plan, loaded, dry_run=dry_run))
    if settings.as_json:
        emit_json(_as_json(plan, steps, dry_run=dry_run))
    else:
        _show(plan, steps, dry_run=dry_run)


def _write(plan: Plan) -> None:
    for one in plan.files:
        try:
            one.write()
        except OSError as error:
            raise Failed(
                f"{one.path} can't be written: {error.strerror}", hint="run this as root; what was written stays good"
            ) from None


def _next(plan: Plan, config: Config, *, dry_run: bool) -> Iterator[str]:
    """Yield what the operator has to do, in order."""
    changed = {one.path for one in plan.changed}
    if dry_run:
        yield "run this again without --dry-run"
    login = next(one for one in plan.logins if one.user == plan.daemon)
    bus = config.bus
    if bus.username != plan.daemon or bus.password_file != login.file:
        yield (
            f"in [bus] of {config.source}: username = {json.dumps(plan.daemon)}, "
            f"password_file = {json.dumps(str(login.file))}"
        )
        yield "systemctl restart jarvis-secretsd"
    if plan.listener in changed:
        yield "systemctl restart mosquitto"
    elif changed:
        yield "systemctl reload mosquitto"
    made = [one for one in plan.logins if one.made != "kept" and one.user != plan.daemon]
    if made:
        yield (
            "give each client its password: JARVIS_MQTT_USERNAME=NAME, JARVIS_MQTT_PASSWORD_FILE=FILE (mode 0600): "
            + ", ".join(str(one.file) for one in made)
        )
    if changed:
        yield "secretsctl doctor   # whether strangers are kept out"


def _show(plan: Plan, steps: list[str], *, dry_run: bool) -> None:
    print_table(("FILE", "STATE"), [(str(one.path), one.standing) for one in plan.files])
    click.echo()
    print_table(("USER", "PASSWORD", "FILE"), [(one.user, one.made, str(one.file)) for one in plan.logins])
    if dry_run:
        for one in plan.changed:
            if not one.private:
                click.echo()
                click.echo("".join(_difference(one)), nl=False)
    if not steps:
        note("nothing is to be done")
    if plan.warning is not None:
        note(f"warning: {plan.warning}")
    for number, step in enumerate(steps, 1):
        note(f"next {number}: {step}")


def _difference(one: Planned) -> Iterator[str]:
    before = (one.before or "").splitlines(keepends=True)
    yield from difflib.unified_diff(before, one.content.splitlines(keepends=True), str(one.path), str(one.path), n=2)


def _as_json(plan: Plan, steps: list[str], *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "files": [{"path": str(one.path), "state": one.standing} for one in plan.files],
        "users": [{"name": one.user, "password": one.made, "password_file": str(one.file)} for one in plan.logins],
        "warnings": [] if plan.warning is None else [plan.warning],
        "next": steps,
    }
