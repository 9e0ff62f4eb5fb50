"""From plan to vault: what is there already, what is sent in one commit, and whether it came back as it was sent."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from secretsd.cli import material
from secretsd.cli.errors import Failed
from secretsd.cli.moving.plan import Step
from secretsd.cli.output import progress
from secretsd.cli.session import Session, decoded, secret_path
from secretsd.crypto.sensitive import Sensitive
from secretsd.model import SecretAnswer, SecretList

State = Literal["keep", "generate", "there", "differs", "leave", "kept", "generated", "replaced"]

_MOST: Final = 10_000
"""As many secrets as one request may make."""
_RANDOM_BYTES: Final = 32


@dataclass(frozen=True)
class Item:
    """A step, and how far it is. States of the plan: keep, generate, there, differs, leave; the others are done."""

    step: Step
    state: State
    kid: str = ""
    """The current version's, where the secret exists."""
    sent: Sensitive | None = field(default=None, repr=False)
    """The value that the vault must give back; None where the daemon made it."""

    @property
    def safe(self) -> bool:
        """Whether the vault holds what the file's variable is for, so that the variable may go."""
        return self.state in {"kept", "generated", "replaced", "there"}


def compare(session: Session, steps: Sequence[Step]) -> list[Item]:
    """Return what is to be done, by looking at each secret that exists and that the client may read."""
    existing = {one.name: one for one in session.secrets()}
    items: list[Item] = []
    with progress("comparing", len(steps)) as advance:
        for step in steps:
            there = existing.get(step.name)
            if step.action == "leave":
                items.append(Item(step, "leave"))
            elif there is None:
                items.append(Item(step, "keep" if step.action == "keep" else "generate"))
            elif step.action == "keep":
                answer = decoded(session.get(secret_path(step.name)), SecretAnswer)
                same = material.from_answer(answer) == step.value
                items.append(Item(step, "there" if same else "differs", answer.kid, step.value))
            else:
                items.append(Item(step, "there", there.kid))
            advance()
    return items


def changing(items: Iterable[Item], *, overwrite: bool) -> list[Item]:
    """Return the items that an import still has to send."""
    return [one for one in items if one.state in {"keep", "generate"} or (one.state == "differs" and overwrite)]


def carry_out(session: Session, items: Sequence[Item], *, overwrite: bool) -> list[Item]:
    """Send everything that is new (or replaced) in one request, all or nothing, and return what became of each.

    Raises Failed when the daemon refuses it; nothing has changed then. Raises Unreachable.
    """
    wanted = changing(items, overwrite=overwrite)
    if not wanted:
        return list(items)
    if len(wanted) > _MOST:
        raise Failed(f"{len(wanted)} secrets are too many for one commit; take at most {_MOST} with --only")
    sending = [_with_value(one) for one in wanted]
    try:
        answer = session.change("POST", "/secrets", {"secrets": [_entry(one) for one in sending]})
    except Failed as failed:
        raise _explained(failed, wanted) from None
    made = {one.name: one for one in decoded(answer, SecretList).secrets}
    done = {one.step.name: _done(one, made[one.step.name].kid) for one in sending if one.step.name in made}
    return [done.get(one.step.name, one) if one.step.action != "leave" else one for one in items]


def read_back(session: Session, items: Iterable[Item]) -> int:
    """Read every secret through the API and compare; return how many. Raises Failed naming those that differ."""
    reading = [one for one in items if one.safe]
    wrong: list[str] = []
    with progress("reading back", len(reading)) as advance:
        for one in reading:
            answer = decoded(session.get(secret_path(one.step.name)), SecretAnswer)
            if answer.kid != one.kid or (one.sent is not None and material.from_answer(answer) != one.sent):
                wrong.append(one.step.name)
            advance()
    if wrong:
        raise Failed(
            f"read back, this is not what was sent: {', '.join(wrong)}",
            hint="the .env file is as it was. Somebody may have changed the secret a moment ago: look at it with "
            "`secretsctl info`, then import again",
        )
    return len(reading)


def _with_value(item: Item) -> Item:
    if item.step.action == "random":
        return replace(item, sent=Sensitive(base64.b64encode(secrets.token_bytes(_RANDOM_BYTES))))
    return replace(item, sent=item.step.value if item.step.action == "keep" else None)


def _entry(item: Item) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": item.step.name}
    if item.sent is not None:
        entry |= material.as_json(item.sent)
    if item.state == "differs":
        # Only if it is still the version that was compared: nobody's change of a moment ago is lost.
        entry["replaces"] = item.kid
    elif item.step.type is not None:
        entry["type"] = item.step.type
    return entry


def _done(item: Item, kid: str) -> Item:
    state: State = "replaced" if item.state == "differs" else "kept" if item.step.action == "keep" else "generated"
    return replace(item, state=state, kid=kid)


def _explained(failed: Failed, wanted: Sequence[Item]) -> Failed:
    """Return the refusal with the variable that it is about; the daemon names it by its place only."""
    found = failed.place("secrets")
    if found is None or found[0] >= len(wanted):
        return failed
    step = wanted[found[0]].step
    about = f"{step.key} (line {step.line}), secret {step.name}" if step.key else f"the table's secret {step.name}"
    hint = failed.hint
    if failed.slug == "exists":
        hint = (
            "this client may not read it, or it was made a moment ago: allow it, leave it out with --skip, or try again"
        )
    return Failed(f"{about}: {found[1]} Nothing was imported.", hint=hint, slug=failed.slug)
