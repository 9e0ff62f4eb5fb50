"""init: everything that a first start needs, and nothing that was there before touched."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from secretsd import files
from secretsd.cli.errors import Failed
from secretsd.cli.options import EXISTING_FILE, Settings, json_option
from secretsd.cli.output import emit_json
from secretsd.cli.passphrase import read_passphrase
from secretsd.cli.templates import NewClient, Setup, config_toml, policy_yaml
from secretsd.cli.terminal import note
from secretsd.config import Config, load
from secretsd.errors import ConfigError, SecretsdError
from secretsd.model import is_name
from secretsd.policy import load as load_policy
from secretsd.policy.names import is_pattern

ADMIN: Final = "admin"
_ALL_RIGHTS: Final = ("read", "write", "rotate", "delete", "audit", "admin")
_TOKEN_BYTES: Final = 32


class _Client(click.ParamType[NewClient]):
    """`NAME`, or `NAME=GLOB,GLOB` with what it may read."""

    name = "client"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NewClient:
        name, _, patterns = str(value).partition("=")
        allow = tuple(filter(None, patterns.split(",")))
        if not is_name(name) or name == "secretsd":
            self.fail(f"{name!r} can't be a client's name: letters, digits, dot, underscore, hyphen", param, ctx)
        if name == ADMIN:
            self.fail("admin is always made, and may do everything", param, ctx)
        wrong = next((pattern for pattern in allow if not is_pattern(pattern)), None)
        if wrong is not None:
            self.fail(f"no secret's name matches {wrong!r}", param, ctx)
        return NewClient(name, allow, ("read",))


@click.command
@click.option(
    "--config-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/etc/jarvis-secretsd"),
    show_default=True,
    metavar="DIR",
    help="Where config.toml and policy.yaml go.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/opt/jarvis"),
    show_default=True,
    metavar="DIR",
    help="Where secrets/ (vault and master key) and audit/ go.",
)
@click.option("--bind", default="127.0.0.1:8081", show_default=True, metavar="ADDR:PORT", help="Where HTTP is served.")
@click.option("--unix-socket", is_flag=True, help="Serve on the Unix socket /run/jarvis-secretsd/secretsd.sock too.")
@click.option("--bus-url", default="mqtt://127.0.0.1:1883", show_default=True, metavar="URL", help="The MQTT broker.")
@click.option("--no-bus", is_flag=True, help="Without a broker.")
@click.option(
    "--client",
    "clients",
    type=_Client(),
    multiple=True,
    metavar="NAME[=GLOB,...]",
    help="A client, and the secrets that it may read; may be repeated. `admin`, who may do everything, is always made.",
)
@click.option(
    "--token-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write each client's token to DIR/NAME.token, mode 0600, instead of printing it.",
)
@click.option(
    "--socket-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Prove each --client by a Unix socket of its own, DIR/NAME/secretsd.sock, instead of a token: for containers "
    "that mount only their folder.",
)
@click.option(
    "--passphrase-file",
    type=EXISTING_FILE,
    metavar="FILE",
    help="Wrap the master key under the passphrase in FILE; the daemon needs it at each start.",
)
@json_option
@click.pass_context
def init(
    ctx: click.Context,
    config_dir: Path,
    state_dir: Path,
    bind: str,
    bus_url: str,
    clients: tuple[NewClient, ...],
    token_dir: Path | None,
    socket_dir: Path | None,
    passphrase_file: Path | None,
    *,
    unix_socket: bool,
    no_bus: bool,
) -> None:
    """Write a configuration, a policy and an empty vault, and make each client a token.

    A token is shown this once (or written to --token-dir): the policy keeps only its SHA-256. Nothing that exists
    is overwritten.
    """
    if no_bus and ctx.get_parameter_source("bus_url") is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--bus-url and --no-bus exclude each other")
    settings: Settings = ctx.obj
    setup = Setup(config_dir.absolute(), state_dir.absolute(), bind, None if no_bus else bus_url, unix_socket)
    if socket_dir is not None:
        clients = tuple(replace(one, socket=socket_dir.absolute() / one.name / "secretsd.sock") for one in clients)
    everyone = [NewClient(ADMIN, ("*",), _ALL_RIGHTS), *clients]
    if len({one.name for one in everyone}) < len(everyone):
        raise click.UsageError("a client is named twice")
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file).reveal()
    tokens = {one.name: secrets.token_urlsafe(_TOKEN_BYTES) for one in everyone if one.socket is None}
    token_files = {} if token_dir is None else {name: token_dir.absolute() / f"{name}.token" for name in tokens}
    _refuse_existing(setup, token_files.values())
    try:
        with _undone_on_failure() as made:
            made.write(_mark(setup), "")
            made.write(setup.policy, policy_yaml(everyone, tokens))
            made.write(setup.config, config_toml(setup))
            config = load(setup.config, environ={})
            load_policy(setup.policy, config)
            for name, path in token_files.items():
                made.write(path, tokens[name] + "\n")
            _create_state(config, passphrase, made)
    except ConfigError as error:
        # It begins with the file to correct, which is gone again: what has to be corrected are the options.
        complaints = str(error).partition("\n")[2] or str(error)
        raise click.UsageError(f"nothing was set up, for the daemon would refuse this:\n{complaints}") from None
    except SecretsdError as error:
        raise Failed(f"nothing was set up: {error}") from None
    except OSError as error:
        hint = "make room on its disk" if files.is_full(error) else None
        raise Failed(f"nothing was set up: {error.filename}: {error.strerror}", hint=hint) from None
    _report(settings, setup, tokens, token_files, passphrase_file)


def _create_state(config: Config, passphrase: bytes | None, made: _Made) -> None:
    from secretsd.daemon.firststart import (  # noqa: PLC0415 — brings the vault's machinery with it
        StateFiles,
        create_state,
    )

    state = StateFiles(config)
    made.expect([state.master_key, state.sign_key, state.sign_pub, state.audit, state.cursor, state.vault])
    create_state(config, passphrase)


def _mark(setup: Setup) -> Path:
    """Return the daemon's own mark of a first start that isn't finished: written first, and gone when all is there."""
    return setup.state_dir / "secrets" / "vault.json.first-start"


def _state_files(setup: Setup) -> list[Path]:
    secrets_dir, audit_dir = setup.state_dir / "secrets", setup.state_dir / "audit"
    return [
        *(secrets_dir / name for name in ("master.key", "vault.json")),
        *(audit_dir / name for name in ("audit.jsonl", "audit.sign.key", "audit.sign.pub", "audit.keys.json")),
    ]


def _refuse_existing(setup: Setup, token_files: Iterable[Path]) -> None:
    from secretsd.audit.logfiles import find_files  # noqa: PLC0415 — only here

    mark = _mark(setup)
    wanted = [setup.config, setup.policy, mark, *_state_files(setup), *token_files]
    there = [*filter(os.path.lexists, wanted), *find_files(setup.state_dir / "audit" / "audit.jsonl")]
    existing = list(dict.fromkeys(there))
    if not existing:
        return
    hint = "init never overwrites; choose other folders, or move these away if they are really not needed"
    if mark in existing:
        hint = (
            f"an init, or the daemon's first start, was broken off here, as {mark} says: nobody can have kept anything "
            "in it yet. Move all of these away, and run init again"
        )
    raise Failed(f"nothing was set up, for this exists: {', '.join(map(str, existing))}", hint=hint)


class _Made:
    """The files and folders that this run makes, so that they can be taken away again."""

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._folders: set[Path] = set()

    def write(self, path: Path, text: str) -> None:
        """Make a file, 0600, in a folder, 0700 if it is made too. Raises OSError, also where one is there meanwhile."""
        self._folder(path.parent)
        with files.naming(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, files.PRIVATE_FILE)
            self._files.append(path)
            try:
                files.write_all(descriptor, text.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        files.sync_folder(path.parent)

    def expect(self, paths: Iterable[Path]) -> None:
        """Count what isn't there yet among what is made: something else is about to make it. Raises OSError."""
        for path in paths:
            self._folder(path.parent)
            if not os.path.lexists(path):
                self._files.append(path)

    def _folder(self, path: Path) -> None:
        self._folders.update(one for one in (path, *path.parents) if not one.exists())
        files.make_folder(path)

    def take_away(self) -> None:
        """Remove the files, and the folders that are empty then."""
        for path in self._files:
            with contextlib.suppress(OSError):
                path.unlink()
        for folder in sorted(self._folders, key=lambda one: len(one.parts), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _undone_on_failure() -> Iterator[_Made]:
    """Give what keeps account of the files that are made; when the body fails they are taken away again."""
    made = _Made()
    try:
        yield made
    except BaseException:
        made.take_away()
        raise


def _report(
    settings: Settings, setup: Setup, tokens: dict[str, str], token_files: dict[str, Path], passphrase_file: Path | None
) -> None:
    if settings.as_json:
        shown = {"token_files": {name: str(path) for name, path in token_files.items()}}
        emit_json(
            {
                "config": str(setup.config),
                "policy": str(setup.policy),
                "state_dir": str(setup.state_dir),
                **(shown if token_files else {"tokens": tokens}),
            }
        )
        return
    note(f"wrote {setup.config}, {setup.policy} and an empty vault in {setup.state_dir}")
    for name, token in tokens.items():
        click.echo(f"{name} {token_files.get(name, token)}")
    if not token_files:
        note("these tokens are not shown again: give each to its client as JARVIS_CLIENT_TOKEN_FILE (mode 0600)")
    if passphrase_file is not None:
        note(f"the daemon needs the passphrase at each start: SECRETSD_PASSPHRASE_FILE={passphrase_file.absolute()}")
    note(f"start it: jarvis-secretsd --config {setup.config}")
