"""docs/secretsctl.md names every command and every option that --help shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from secretsd.cli.app import COMMANDS, root

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "secretsctl.md"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield all commands with the words that call them."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, f"{path} {name}")


def chapters() -> dict[str, str]:
    """Return the text below each heading that is a command."""
    parts = re.split(r"^#+ `(secretsctl[^`]*)`$", REFERENCE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


ALL = dict(commands(root, "secretsctl"))


@pytest.mark.parametrize("path", [path for path, one in ALL.items() if not isinstance(one, click.Group)])
def test_each_command_has_a_chapter_with_its_options(path: str) -> None:
    text = chapters()[path]
    for param in ALL[path].params:
        if isinstance(param, click.Option) and not param.hidden and param.name not in {"help", "as_json"}:
            for name in (*param.opts, *param.secondary_opts):
                assert f"`{name}" in text, f"{path} {name}"
        if isinstance(param, click.Argument):
            assert param.make_metavar(click.Context(ALL[path])) in text


def test_the_options_of_all_commands_and_their_variables_are_explained() -> None:
    text = REFERENCE.read_text()
    for param in ALL["secretsctl"].params:
        for name in param.opts:
            assert f"`{name}" in text
        if isinstance(param.envvar, str):
            assert f"`{param.envvar}`" in text


def test_the_reference_names_no_command_that_does_not_exist() -> None:
    assert set(chapters()) <= set(ALL)


def test_every_command_has_help() -> None:
    assert set(COMMANDS) <= {path.split()[1] for path, command in ALL.items() if path != "secretsctl" and command.help}
