"""Writes docs/man from what `--help` says: a page for the daemon, one for secretsctl, one for each of its commands.

`make reference` runs it; a test compares what it would write with what stands there. man(7) and not mdoc(7), since only
that is understood by every `man`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click

from secretsd.cli.app import SECTIONS, root
from secretsd.daemon import parser as daemon_parser

FOLDER: Final = Path(__file__).parents[1] / "docs" / "man"
DATE: Final = "2026-11-28"
"""When the pages' form was last changed; their content belongs to the version."""

PROGRAM: Final = "secretsctl"

EXIT_STATUS: Final = (
    ("0", "Done."),
    ("1", "Refused, or a verification failed."),
    ("2", "The command line isn't right."),
    ("3", "The daemon (for tail: the broker) can't be reached."),
    ("130, 141", "Ended by Ctrl-C; the reader of the output went away."),
)
OF_A_CHILD: Final = (
    ("125", "An error of its own, a wrong command line and an unreachable daemon too."),
    ("126, 127", "A command can't be executed, or there is none."),
)
"""What run and template add: their other statuses stand in their description."""

FILES: Final = (
    ("/etc/jarvis-secretsd/config.toml", "The daemon's configuration."),
    ("/etc/jarvis-secretsd/policy.yaml", "Who may do what."),
    ("/run/jarvis-secretsd/secretsd.sock", "The daemon's Unix socket."),
)
ENVIRONMENT: Final = (
    ("JARVIS_CLIENT_TOKEN", "The client's token itself. A file is better: --token-file."),
    ("JARVIS_MQTT_URL", "The broker, for run, template and tail, where it isn't the one that the daemon names."),
    ("NO_COLOR", "Print no colours."),
)


@dataclass(frozen=True)
class Page:
    """A command and the words that call it."""

    words: tuple[str, ...]
    command: click.Command
    line: str

    @property
    def name(self) -> str:
        """The page's name, as `man` is asked for it."""
        return "-".join(self.words)

    @property
    def context(self) -> click.Context:
        """A context in which the command says how it is called."""
        above = click.Context(root, info_name=PROGRAM, **root.context_settings)
        return above if self.command is root else click.Context(self.command, parent=above)


def pages() -> Iterator[Page]:
    """Yield every page."""
    yield Page((PROGRAM,), root, "operate jarvis-secretsd, the secrets daemon")
    context = click.Context(root)
    for section in SECTIONS.values():
        for name, (_, line) in section.items():
            command = root.get_command(context, name)
            if command is not None:
                yield from _below(Page((PROGRAM, name), command, line))


def _below(page: Page) -> Iterator[Page]:
    yield page
    if isinstance(page.command, click.Group):
        for name in page.command.list_commands(page.context):
            command = page.command.get_command(page.context, name)
            if command is not None:
                yield from _below(Page((*page.words, name), command, command.get_short_help_str(200)))


def written(page: Page) -> str:
    """Return a page's source."""
    lines = [
        *_head(page.name, 1, f"{page.line[:1].lower()}{page.line[1:].rstrip('.')}"),
        *_synopsis(page),
        *_description(page.command.help or ""),
        *_commands(page),
        *_options(page),
    ]
    if page.command is root:
        lines += [".SH ENVIRONMENT", *_list(ENVIRONMENT), ".SH FILES", *_list(FILES)]
    if not isinstance(page.command, click.Group) or page.command is root:
        own = OF_A_CHILD if page.words[-1] in {"run", "template"} else ()
        lines += [".SH EXIT STATUS", *_list(own or EXIT_STATUS)]
    return "\n".join([*lines, *_see_also(page)]) + "\n"


def daemon_page() -> str:
    """Return the source of the daemon's own page."""
    parser = daemon_parser()
    options = [
        (", ".join(action.option_strings) + (f" {action.metavar}" if action.metavar else ""), action.help or "")
        for action in parser._actions
    ]
    lines = [
        *_head(parser.prog, 8, "serve secrets, and say over MQTT what changed"),
        ".SH SYNOPSIS",
        f"\\fB{_plain(parser.prog)}\\fR [{_plain('--config')} FILE]",
        *_description(parser.description or ""),
        ".SH OPTIONS",
        *_list(options),
        ".SH SIGNALS AND EXIT STATUS",
        *_text(parser.epilog or ""),
        ".SH FILES",
        *_list(FILES),
        ".SH SEE ALSO",
        f".BR {PROGRAM} (1)",
    ]
    return "\n".join(lines) + "\n"


def _head(name: str, section: int, line: str) -> list[str]:
    return [
        '.\\" Made by `make reference` from what --help says.',
        f'.TH {name.upper()} {section} {DATE} "jarvis-secretsd {version("jarvis-secretsd")}" "jarvis-secretsd"',
        ".SH NAME",
        f"{name} \\-",
        *_text(line),
    ]


def _synopsis(page: Page) -> list[str]:
    pieces = " ".join(_plain(piece) for piece in page.command.collect_usage_pieces(page.context))
    return [".SH SYNOPSIS", f"\\fB{_plain(' '.join(page.words))}\\fR {pieces}"]


def _description(text: str) -> list[str]:
    paragraphs = [re.sub(r"\s+", " ", part).strip() for part in textwrap.dedent(text).strip().split("\n\n")]
    lines = [".SH DESCRIPTION"]
    for index, paragraph in enumerate(filter(None, paragraphs)):
        lines += [*([".PP"] if index else []), *_text(paragraph)]
    return lines


def _commands(page: Page) -> list[str]:
    if page.command is root:
        lines = [".SH COMMANDS"]
        for section, commands in SECTIONS.items():
            lines += [f".SS {_plain(section)}", *_list([(name, line) for name, (_, line) in commands.items()])]
        return lines
    if isinstance(page.command, click.Group):
        below = [one for one in _below(page) if len(one.words) == len(page.words) + 1]
        return [".SH COMMANDS", *_list([(one.words[-1], one.line) for one in below])]
    return []


def _options(page: Page) -> list[str]:
    records = [
        record
        for param in page.command.get_params(page.context)
        if isinstance(param, click.Option) and (record := param.get_help_record(page.context)) is not None
    ]
    lines = [".SH OPTIONS", *_list(records)]
    if page.command is not root and any(param.name == "url" for param in page.command.params):
        lines += [
            ".PP",
            "What says who asks whom (\\-\\-url, \\-\\-client, \\-\\-token\\-file and others)",
            "stands in",
            ".BR secretsctl (1),",
            "and may be given here too.",
        ]
    return lines


def _see_also(page: Page) -> list[str]:
    """Name the page above, and those beside and below."""
    daemon = [".BR jarvis\\-secretsd (8)"] if page.command is root else []
    others = [one.name for one in pages() if one.words[:-1] == page.words or page.words[:-1] == one.words]
    lines = [f".BR {_plain(name)} (1)" for name in sorted(others)]
    lines = [*daemon, *lines]
    return [".SH SEE ALSO", *(f"{line}," for line in lines[:-1]), lines[-1]] if lines else []


def _list(records: Sequence[tuple[str, str]]) -> list[str]:
    lines: list[str] = []
    for name, text in records:
        lines += [".TP", f"\\fB{_plain(name)}\\fR", *_text(text)]
    return lines


def _text(text: str) -> list[str]:
    """Return running text: each sentence on a line of its own, broken where it is long."""
    sentences = re.split(r"(?<=[.!?]) +(?=[A-Z])", re.sub(r"\s+", " ", text).strip())
    return [_plain(line) for sentence in sentences for line in textwrap.wrap(sentence, 68, break_on_hyphens=False)]


def _plain(text: str) -> str:
    """Return text of which nothing is taken for a request or an escape."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith((".", "\\(aq")) else escaped


def everything() -> dict[str, str]:
    """Return all pages' sources by the names of their files."""
    return {"jarvis-secretsd.8": daemon_page()} | {f"{page.name}.1": written(page) for page in pages()}


def main() -> None:
    """Write all pages, and take away those of commands that are no more."""
    FOLDER.mkdir(exist_ok=True)
    made = everything()
    for left in {path.name for path in FOLDER.iterdir()} - made.keys():
        (FOLDER / left).unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
