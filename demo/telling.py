"""What the try-out says on the terminal: steps, events, errors. Colour only where a terminal shows it."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from demo.live import Heard, Report

REFUSALS = ("access.denied", "access.failed")


class Teller:
    """Lines for a person; nothing is wrapped, so that commands can be copied."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(highlight=False, soft_wrap=True, stderr=True)

    def line(self, text: str = "", style: str = "") -> None:
        """Say a plain line."""
        self._out.print(Text(text, style=style))

    def step(self, verb: str, *lines: str) -> None:
        """Tell of one thing that was shown to work."""
        for first, text in zip((verb, *[""] * len(lines)), lines, strict=False):
            self._out.print(Text.assemble("  ", (f"{first:<11}", "bold green"), text))

    def commands(self, commands: Sequence[tuple[str, str]]) -> None:
        """Offer commands to type, and say what each is for."""
        width = max(len(command) for command, _ in commands)
        for command, why in commands:
            self._out.print(Text.assemble("  ", (f"{command:<{width}}", "cyan"), ("  # " + why, "dim")))

    def heard(self, heard: Heard) -> None:
        """Tell of a verified event, as it comes."""
        event = heard.event
        style = "yellow" if event.type in REFUSALS else "magenta"
        self._out.print(
            Text.assemble(
                (f"{event.time[11:23]} ", "dim"),
                (f"{event.type:<16}", style),
                describe(event.data),
                ("  signature ok", "dim"),
            )
        )

    def changed(self, report: Report, name: str) -> None:
        """Tell that the live service was told of a change."""
        self._out.print(
            Text.assemble(" " * 13, ("live service    ", "bold green"), f"now holds version {report.version} of {name}")
        )

    def error(self, text: str) -> None:
        """Tell what went wrong and what to do next."""
        self._err.print(Text.assemble(("make run: ", "bold red"), text))


def describe(data: object) -> str:
    """Put an event's data in a few words: which secret, which version, who, and why it was refused."""
    if not isinstance(data, dict):
        return ""
    words = [str(data.get("name") or "–")]
    if data.get("version"):
        words.append(f"version {data['version']}")
    words.append(f"by {data.get('client') or 'an unknown client'}")
    if data.get("reason"):
        words.append(f"({data['reason']})")
    return " ".join(words)
