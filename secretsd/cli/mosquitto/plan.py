"""What is to be written, worked out from config.toml, policy.yaml, the vault's names and what is there already."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from typing import Final, Literal

from secretsd import files as private
from secretsd.cli.errors import Failed
from secretsd.cli.material import without_newline
from secretsd.cli.mosquitto import acl, listener, passwords
from secretsd.cli.mosquitto.certificate import refuse_unusable
from secretsd.cli.mosquitto.files import (
    BROKERS_USER,
    READABLE,
    Planned,
    between_marks,
    brokers_uid,
    content_of,
    marked,
    owner_of,
)
from secretsd.cli.mosquitto.listener import Listener
from secretsd.config import Config
from secretsd.model import is_name
from secretsd.policy import Policy

DAEMON: Final = "secretsd"
PASSWORDS: Final = "mqtt"
"""The folder beside config.toml where the passwords are, unless told otherwise."""
Made = Literal["new", "kept", "renewed"]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files go."""

    listener: Path
    folder: Path
    passwords: Path
    """The folder of the passwords in the clear, each for its client to be given."""

    @property
    def acl(self) -> Path:
        """The ACL."""
        return self.folder / "acl"

    @property
    def hashes(self) -> Path:
        """Mosquitto's password file."""
        return self.folder / "passwords"

    def others(self) -> list[Path]:
        """Return the configuration files that Mosquitto reads besides ours, where ours is one of an include_dir."""
        folder = self.listener.parent
        return [
            path
            for path in (folder.parent / "mosquitto.conf", *sorted(folder.glob("*.conf")))
            if path != self.listener and path.is_file()
        ]


@dataclass(frozen=True, slots=True)
class Login:
    """A user of the broker, the file with its password, and what becomes of that."""

    user: str
    file: Path
    made: Made


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be written, in this order: an interrupted run is completed by the next."""

    files: Sequence[Planned]
    logins: Sequence[Login]
    daemon: str
    listener: Path
    warning: str | None = None
    """What is unsafe about where Mosquitto is to listen, and was asked for."""

    @property
    def changed(self) -> list[Planned]:
        """Return the files that aren't as they are to be."""
        return [one for one in self.files if one.standing != "unchanged"]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says."""

    listen: tuple[str | None, int] | None = None
    cert: Path | None = None
    key: Path | None = None
    homeassistant: str | None = None
    """None is whom the ACL has already, if anybody; an empty name takes that one out."""
    renew: Collection[str] = ()


def work_out(config: Config, policy: Policy, names: Collection[str], places: Places, wishes: Wishes) -> Plan:
    """Return what is to be written. Raises Failed where that can't be, or would not be safe."""
    daemon = config.bus.username or DAEMON
    rules = content_of(places.acl)
    homeassistant = acl.homeassistant_in(between_marks(rules)) if wishes.homeassistant is None else wishes.homeassistant
    if daemon in policy.clients or daemon == homeassistant:
        raise Failed(
            f"{daemon} is the daemon's user at the broker and somebody else's name too, who could then write as the "
            "daemon does",
            hint=f"give bus.username of {config.source} a name of its own, such as {DAEMON}",
        )
    everyone = acl.users(config, policy, names, daemon=daemon, homeassistant=homeassistant or None)
    unknown = sorted(set(wishes.renew) - {one.name for one in everyone})
    if unknown:
        raise Failed(f"{unknown[0]} is no user of the broker here: {', '.join(one.name for one in everyone)}")
    broker = brokers_uid()
    listening, told = _listening(config, places, wishes)
    before = content_of(places.listener)
    ours = listener.block(listening, places.hashes, places.acl, told)
    text = marked(places.listener, before, ours, last=False)
    configuration = Planned(places.listener, text, before, None, mode=READABLE)
    rights = Planned(places.acl, marked(places.acl, rules, acl.block(everyone), last=True), rules, broker)
    clear, hashes, logins = _logins(config, [one.name for one in everyone], daemon, places, wishes)
    written = [*clear, replace(hashes, owner=broker), rights, configuration]
    for one in written:
        reason = private.unfit(one.path)
        if reason is not None:
            raise Failed(f"{one.path} {reason}")
    return Plan(written, logins, daemon, places.listener, _warning(listening))


def names_in(vault: Path) -> list[str]:
    """Return the names of the secrets in a vault's file, which holds them in the clear; none where there is no vault.

    They decide who may read which topics, no more: a file that was tampered with is the daemon's to refuse.
    """
    content = content_of(vault)
    if content is None:
        return []
    try:
        names = list(json.loads(content)["secrets"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Failed(f"{vault} is no vault", hint="secretsctl doctor says more") from None
    return sorted(name for name in names if is_name(name))


def _logins(
    config: Config, users: Sequence[str], daemon: str, places: Places, wishes: Wishes
) -> tuple[list[Planned], Planned, list[Login]]:
    """Return the passwords in the clear, Mosquitto's file of hashes, and what becomes of each.

    A password that is there is kept: one in the clear counts, also where somebody wrote it by hand; without it a hash
    still does, as the client has its password. Only the daemon's has to be readable.
    """
    before = content_of(places.hashes)
    stored = passwords.read(before or "")
    clear, logins, ours = [], [], {}
    for user in users:
        file = places.passwords / f"{user}.password"
        owner = None
        if user == daemon:
            file, owner = config.bus.password_file or places.passwords.parent / "mqtt.password", _daemons_uid(config)
        password = None if user in wishes.renew else _password(file)
        made: Made = "renewed" if user in wishes.renew else "kept"
        if password is None and (user in wishes.renew or user == daemon or user not in stored):
            made = made if user in wishes.renew else "new"
            password = passwords.new_password()
            clear.append(Planned(file, password + "\n", content_of(file), owner, private=True))
        if password is None or passwords.matches(stored.get(user, ""), password):
            ours[user] = stored[user]
        else:
            ours[user] = passwords.hashed(password)
        logins.append(Login(user, file, made))
    return clear, Planned(places.hashes, passwords.written(before or "", ours), before, None, private=True), logins


def _password(file: Path) -> str | None:
    try:
        content = without_newline(private.read_private(file)).decode()
    except FileNotFoundError:
        return None
    except private.ReadableByOthers as error:
        raise Failed(str(error)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Failed(f"{file} can't be used: {reason}") from None
    if not content:
        raise Failed(f"{file} is empty", hint="remove it to have a password made, or write one into it")
    return content


def _daemons_uid(config: Config) -> int | None:
    """Return whose the daemon's own files are: its vault's, before there is one its configuration's."""
    vault = owner_of(config.paths.vault_path)
    return owner_of(config.source) if vault is None else vault


def _listening(config: Config, places: Places, wishes: Wishes) -> tuple[Listener, list[str]]:
    """Return where Mosquitto is to listen, and what its other files say already."""
    bus = config.bus.settings()
    kept = dict(listener.directives(content_of(places.listener) or ""))
    cert = wishes.cert or (Path(kept["certfile"]) if "certfile" in kept else None)
    key = wishes.key or (Path(kept["keyfile"]) if "keyfile" in kept else None)
    if wishes.listen is not None:
        address, port = wishes.listen
    else:
        address, port = _loopback(bus.host), bus.port
        if address is None and not bus.tls:
            raise Failed(
                f"bus.url {bus.url} crosses a network without TLS, where passwords could be read",
                hint="write it as mqtts://, or name a private address with --listen if that is meant",
            )
    if not bus.tls:
        made = Listener(port, address)
    elif cert is None or key is None:
        raise Failed(f"bus.url {bus.url} needs the broker's certificate", hint="give --broker-cert and --broker-key")
    else:
        made = Listener(port, address, cert, key)
        said = (listener.directives(content_of(path) or "") for path in places.others())
        refuse_unusable(cert, key, dict(chain.from_iterable(said)).get("user", BROKERS_USER))
    return made, _told(made, places)


def _loopback(host: str) -> str | None:
    """Return the loopback address that a host of a URL stands for, None for any other."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return host if ip_address(host).is_loopback else None
    except ValueError:
        return None


def _warning(made: Listener) -> str | None:
    """Return what is unsafe about where it listens: an address that is no loopback's and no private network's."""
    if made.cert is not None or made.address is None:
        return None
    address = ip_address(made.address)
    if address.is_private and not address.is_unspecified:
        return None
    where = "all of this machine's addresses" if address.is_unspecified else f"{address}, a public address,"
    return (
        f"Mosquitto listens on {where} without TLS: whoever is on the way reads the passwords; "
        "write bus.url as mqtts:// and give --broker-cert and --broker-key, or name a private address"
    )


def _told(made: Listener, places: Places) -> list[str]:
    """Return what others say of what may be said once. Raises Failed for what contradicts ours."""
    told = []
    for path in places.others():
        for name, value in listener.directives(content_of(path) or ""):
            if name in listener.ONCE:
                told.append(name)
            elif (
                name in {"password_file", "acl_file"}
                or (name in {"allow_anonymous", "per_listener_settings"} and value in {"true", "1"})
                or (name in {"listener", "port"} and value.split()[:1] == [str(made.port)])
            ):
                raise Failed(
                    f"{path} says `{name} {value}`, and {places.listener} is to say that",
                    hint=f"take that line out of {path}, and run this again",
                )
    return told
