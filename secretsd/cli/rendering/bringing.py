"""Files brought up to date: staged, checked, put in place or taken back, and then the reloads, each once.

Files with the same orders go together, all or none: a certificate and its key make sense only as a pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from secretsd_client import Secret

from secretsd.cli.errors import Failed
from secretsd.cli.rendering.commands import Order, Outcome, execute, presentable
from secretsd.cli.rendering.jobs import Job, Orders
from secretsd.cli.rendering.target import Note
from secretsd.cli.rendering.template import Rendered
from secretsd.cli.running.folder import Delivered, Difference, differences
from secretsd.cli.terminal import note, printable


@dataclass
class Piece:
    """One file of a round: what it is to become, of which versions, and the note of what it was made of."""

    job: Job
    source: str
    rendered: Rendered
    made_of: dict[str, Delivered]
    note: Note

    @classmethod
    def of(cls, job: Job, source: str, rendered: Rendered, secrets: dict[str, Secret], noted: Note) -> Piece:
        """Return the piece for what was rendered from `secrets`."""
        made_of = {name: Delivered(secrets[name].kid, secrets[name].version) for name in sorted(rendered.used)}
        return cls(job, source, rendered, made_of, noted)

    @property
    def is_due(self) -> bool:
        """Tell whether the file is another, or its reload is owed still."""
        return self.note.owed or not self.job.target.holds(self.rendered.data)

    @property
    def changes(self) -> list[Difference]:
        """Return which secrets have changed since it was made, nothing for one that is made first."""
        return differences(self.note.secrets, self.made_of) if self.note.secrets else []

    def settle(self, noted: Note) -> None:
        """Remember it so."""
        self.job.target.remember(noted)
        self.note = noted

    def __str__(self) -> str:
        changed = f" ({', '.join(map(str, self.changes))})" if self.changes else ""
        return f"{self.job.target.path}{changed}"


@dataclass(frozen=True)
class Round:
    """How it went. What was refused waits for another change; a reload may succeed later by itself."""

    refused: bool
    not_reloaded: bool


async def bring_up_to_date(groups: Iterable[Sequence[Piece]]) -> Round:
    """Do all that is due, say what was done and what was not, and return how it went. Raises Failed.

    What is not done is due in the next round too. A file that a check refuses never was in force, or is no more.
    """
    placed: list[Piece] = []
    refused = False
    for group in groups:
        due = [piece for piece in group if piece.is_due]
        for piece in group:
            if piece not in due and piece.note.secrets != piece.made_of:
                piece.settle(Note(piece.made_of, owed=False))
        if due and await _place(due, due[0].job.orders):
            placed += due
        elif due:
            refused = True
    return Round(refused, not_reloaded=not await _reload(placed))


async def _place(due: Sequence[Piece], orders: Orders) -> bool:
    """Put the files in place if the check, where there is one, agrees; return whether they are. Raises Failed."""
    begun: list[Piece] = []
    accepted = False
    try:
        accepted = await _placed_and_checked(due, orders, begun)
    finally:
        for piece in due:
            piece.job.target.discard()
        for piece in begun:
            if accepted:
                piece.job.target.accept()
            else:
                piece.job.target.take_back()
                piece.settle(piece.note)
    if accepted:
        for piece in due:
            note(f"written: {piece}")
    return accepted


async def _placed_and_checked(due: Sequence[Piece], orders: Orders, begun: list[Piece]) -> bool:
    """Return whether the check agrees. What was begun to be placed, and has to be taken back if not, is in `begun`."""
    for piece in due:
        piece.job.target.stage(piece.rendered.data)
    check = orders.check
    if check is not None and check.names_file:
        for piece in due:
            if not await _agrees(check, piece.job.target.staged, orders, due):
                return False
    for piece in due:
        begun.append(piece)
        piece.job.target.remember(Note(piece.note.secrets, owed=True))
        piece.job.target.place()
    return check is None or check.names_file or await _agrees(check, None, orders, due)


async def _agrees(check: Order, file: Path | None, orders: Orders, due: Sequence[Piece]) -> bool:
    """Return whether the check succeeds; say so where it doesn't."""
    outcome = await execute(check, file, orders.timeout_secs)
    if not outcome.ok:
        _refused(check, outcome, due)
    return outcome.ok


async def _reload(placed: Sequence[Piece]) -> bool:
    """Run each reload once, however many files ask for it; return whether all succeeded."""
    by_order: dict[tuple[Order | None, float | None], list[Piece]] = {}
    for piece in placed:
        by_order.setdefault((piece.job.orders.reload, piece.job.orders.timeout_secs), []).append(piece)
    well = True
    for (order, timeout_secs), pieces in by_order.items():
        if order is not None:
            outcome = await execute(order, None, timeout_secs)
            if not outcome.ok:
                _complain(Failed(f"the reload `{order.text}` {outcome}"), outcome, pieces)
                well = False
                continue
            note(f"reloaded: {order.text}")
        for piece in pieces:
            piece.settle(Note(piece.made_of, owed=False))
    return well


def _refused(check: Order, outcome: Outcome, due: Sequence[Piece]) -> None:
    undo = next(
        (one for piece in due for one in piece.changes if one.before is not None and one.after is not None), None
    )
    files = ", ".join(map(str, due))
    failed = Failed(
        f"{files}: the check `{check.text}` {outcome}; what was in force before stays so",
        hint=f"if the new value is at fault, `secretsctl restore {undo.name} {undo.before}` brings the old one back"
        if undo
        else None,
    )
    _complain(failed, outcome, due)


def _complain(failed: Failed, outcome: Outcome, pieces: Sequence[Piece]) -> None:
    failed.show()
    sources, rendered = [one.source for one in pieces], [one.rendered.data for one in pieces]
    for line in presentable(outcome.printed, sources, rendered):
        click.echo(f"  | {printable(line)}", err=True)
