"""What is to become of each variable: decided from the file, the table and the options alone. Nobody is asked here."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from secretsd.cli.errors import Failed
from secretsd.cli.moving.envfile import EnvFile, Part, Variable, expanded
from secretsd.cli.moving.table import Action, Rule, Table
from secretsd.crypto.sensitive import Sensitive
from secretsd.model import MAX_VALUE_BYTES, SecretType, is_name

_CREDENTIALS_IN_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)
_TOKEN: Final = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])[A-Za-z0-9+/=_.-]{24,}\Z")


@dataclass(frozen=True)
class Choice:
    """The options: globs of variables (or secrets) to take or leave out, how names begin, what ${…} means."""

    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    prefix: str = ""
    expand: bool | None = None
    """None: not said, so that a value in which it matters is refused."""
    require: Sequence[str] = ()


@dataclass(frozen=True)
class Step:
    """What is to become of one variable.

    `key` is empty for a secret that the table has without one, and for lines that nobody understands.
    """

    key: str
    line: int
    action: Action
    name: str = ""
    type: SecretType | None = None
    value: Sensitive | None = field(default=None, repr=False)
    """What the file has, whatever the action; None where it has nothing."""
    reason: str = ""
    expanded: bool = False


def make_plan(envfile: EnvFile, table: Table, choice: Choice) -> tuple[Step, ...]:
    """Return what becomes of each variable, in the file's order, then of what the table has without one.

    Lines that aren't understood stand among them. Raises Failed when a variable that is required is missing or empty,
    or ${…} could mean two things.
    """
    variables = envfile.variables
    rules = {one.key: _chosen(one.key, table, choice) for one in variables}
    values = _values(envfile, {key for key, (rule, _) in rules.items() if rule.action == "keep"}, choice)
    missing = [key for key in choice.require if not values.get(key)]
    if missing:
        raise Failed(
            f"{envfile.path} doesn't set {', '.join(missing)}",
            hint="nothing was done; complete the file, or ask for less",
        )
    steps: list[Step] = []
    taken: dict[str, str] = {}
    for one in variables:
        rule, reason = rules[one.key]
        step = _step(one, rule, reason, values[one.key], choice)
        if step.action != "leave" and step.name in taken:
            step = _left(one, f"{taken[step.name]} has the name {step.name} already")
        taken.setdefault(step.name, one.key)
        steps.append(step)
    steps.extend(_skipped(part) for part in envfile.parts if not part.understood)
    steps.sort(key=lambda one: one.line)
    steps.extend(
        Step("", 0, rule.action, choice.prefix + rule.secret, rule.type)
        for rule in table.without_variable
        if choice.prefix + rule.secret not in taken and not _matches(choice.skip, {rule.secret}) and not choice.only
    )
    return tuple(steps)


def _chosen(key: str, table: Table, choice: Choice) -> tuple[Rule, str]:
    """Return the rule for a variable as the options change it, and the reason where they leave it out."""
    rule = table.rule_for(key)
    names = {key, rule.secret or secret_name(key)}
    if _matches(choice.skip, names):
        return Rule(0, key, "leave"), "left out by --skip"
    if choice.only and not _matches(choice.only, names):
        return Rule(0, key, "leave"), "not selected by --only"
    if choice.only and rule.action == "leave":
        return Rule(0, key, "keep"), ""
    return rule, ""


def _values(envfile: EnvFile, kept: Collection[str], choice: Choice) -> Mapping[str, str | None]:
    variables = envfile.variables
    literal = {one.key: one.literal for one in variables}
    unclear = [one for one in variables if one.references and one.key in kept]
    if not unclear or choice.expand is False:
        return literal
    if choice.expand is None:
        named = ", ".join(f"{one.key} (line {one.line})" for one in unclear)
        raise Failed(
            f"${{…}} stands in the value of {named}: whether it is part of the secret, the file doesn't say",
            hint="--expand replaces it, as services that use python-dotenv or a shell see it; --no-expand takes the "
            "text as it stands. Nothing was done",
        )
    # Only what is kept and what it refers to: a loose end elsewhere in the file is nobody's business here.
    settings = envfile.settings
    needed = _closure(settings, kept)
    return {**literal, **expanded([one for one in settings if one.key in needed])}


def _closure(settings: Sequence[Variable], kept: Collection[str]) -> set[str]:
    refer: dict[str, list[str]] = {}
    for one in settings:
        refer.setdefault(one.key, []).extend(one.references)
    needed: set[str] = set()
    waiting = list(kept)
    while waiting:
        key = waiting.pop()
        if key in refer and key not in needed:
            needed.add(key)
            waiting.extend(refer[key])
    return needed


def _step(variable: Variable, rule: Rule, reason: str, value: str | None, choice: Choice) -> Step:
    if rule.action == "leave":
        hint = "looks like a secret all the same: name it in --map, or take it with --only"
        return _left(variable, reason or (hint if looks_secret(value or "") else ""))
    name = choice.prefix + (rule.secret or secret_name(variable.key))
    if not value and rule.action == "keep":
        return _left(variable, "empty")
    if not is_name(name):
        return _left(variable, "no secret can have this name: give it another in --map")
    held = None if not value else Sensitive(value.encode())
    if rule.action == "keep" and held is not None and len(held.reveal()) > MAX_VALUE_BYTES:
        return _left(variable, "over 64 KiB")
    changed = rule.action == "keep" and value != variable.literal
    return Step(variable.key, variable.line, rule.action, name, rule.type, held, "", changed)


def _left(variable: Variable, reason: str) -> Step:
    return Step(variable.key, variable.line, "leave", reason=reason)


def _skipped(part: Part) -> Step:
    lines = f"line {part.line}" if part.last_line == part.line else f"lines {part.line} to {part.last_line}"
    return Step("", part.line, "leave", reason=f"{lines}: not understood, and services skip it too: is a quote open?")


def secret_name(key: str) -> str:
    """Return the secret's name for a variable: in lower case, what a name can't hold as underscores."""
    return re.sub(r"[^a-z0-9._-]", "_", key.lower()).lstrip("._-")


def looks_secret(value: str) -> bool:
    """Tell whether a value that the table leaves in the file looks like one: a password in a URL, a key, a token."""
    return value.startswith("-----BEGIN") or bool(_CREDENTIALS_IN_URL.match(value) or _TOKEN.match(value))


def _matches(patterns: Iterable[str], names: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)
