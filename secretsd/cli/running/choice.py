"""Which secrets the child gets, as which variable or file, and what a change of some of them calls for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from secretsd.cli.session import near
from secretsd.model import is_name
from secretsd.policy.names import NameSet

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_STEERING: Final = re.compile(
    r"(PATH|IFS|ENV|BASH_ENV|SHELLOPTS|NODE_OPTIONS|RUBYOPT|JAVA_TOOL_OPTIONS|PERL5(OPT|LIB)|(LD|DYLD|PYTHON|JARVIS)_.*)\Z"
)
"""Variables that make loaders and interpreters run other code, or name us."""


class BadChoice(ValueError):
    """What was asked for makes no sense; the message says what to ask for instead. It never holds a value."""


@dataclass(frozen=True)
class Choice:
    """What the operator asked for: `variables` are pairs of a variable and a secret, `globs` stand for secrets."""

    variables: tuple[tuple[str, str], ...] = ()
    globs: tuple[str, ...] = ()
    prefix: str = ""
    """Before the variables that are named after secrets."""
    as_files: bool = False
    """What `globs` match becomes files instead of variables."""


@dataclass(frozen=True)
class Plan:
    """Secrets by variable, and those that become files of their own name."""

    variables: Mapping[str, str]
    files: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """All of them, each once, by name."""
        return tuple(sorted({*self.variables.values(), *self.files}))

    def needs_restart(self, changed: Iterable[str]) -> bool:
        """Tell whether a running child can't see the change: nobody can change another process's environment."""
        return not set(self.variables.values()).isdisjoint(changed)


def parse_variable(text: str) -> tuple[str, str]:
    """Return variable and secret of "VARIABLE=SECRET", or of "SECRET" alone. Raises BadChoice.

    What is no name isn't repeated: it may be a value in the wrong place.
    """
    variable, equals, secret = text.partition("=")
    if not equals:
        variable, secret = variable_for(text), text
    if not _VARIABLE.match(variable):
        raise BadChoice("a variable is letters, digits and underscores, no digit first: VARIABLE=SECRET")
    if not is_name(secret):
        raise BadChoice(f"what is given for {variable} is no secret's name; values never stand on the command line")
    return variable, secret


def variable_for(secret: str, prefix: str = "") -> str:
    """Return the variable that a secret goes to by itself: upper case, what no variable may hold as underscore."""
    return prefix + re.sub(r"[^A-Z0-9_]", "_", secret.upper())


def plan(choice: Choice, readable: Sequence[str]) -> Plan:
    """Return what goes where, of the secrets that the client may read. Raises BadChoice.

    A glob that matches nothing is an error, as it is most likely a slip, and the child would start without.
    """
    matched: list[str] = []
    for glob in choice.globs:
        found = [name for name in sorted(readable) if name in NameSet([glob])]
        if not found:
            hint = near(glob, readable)
            raise BadChoice(f"no secret that this client may read matches {glob}" + (f"; {hint}" if hint else ""))
        matched += [name for name in found if name not in matched]
    if choice.as_files:
        return Plan(_unique(choice.variables), tuple(sorted(matched)))
    named = {secret for _, secret in choice.variables}
    own = [(variable_for(name, choice.prefix), name) for name in matched if name not in named]
    for variable, name in own:
        if not _VARIABLE.match(variable):
            raise BadChoice(f"{name} makes no variable's name: give one, --env VARIABLE={name}, or use --prefix")
        if _STEERING.match(variable):
            raise BadChoice(
                f"{name} would become {variable}, which decides what programs run: leave it out, use --prefix, or, if "
                f"that is meant, say so: --env {variable}={name}"
            )
    return Plan(_unique([*choice.variables, *own]))


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for variable, secret in pairs:
        other = variables.setdefault(variable, secret)
        if other != secret:
            raise BadChoice(f"{other} and {secret} would both be {variable}: name one of them otherwise with --env")
    return variables


def environment(base: Mapping[bytes, bytes], values: Mapping[str, bytes]) -> dict[bytes, bytes]:
    """Return the child's environment: `base`, our own token taken out, and `values` over it. Raises BadChoice."""
    made = {name: value for name, value in base.items() if name != b"JARVIS_CLIENT_TOKEN"}
    for variable, value in values.items():
        if b"\0" in value:
            raise BadChoice(f"the value for {variable} holds a NUL byte, which no variable can: use --files")
        made[variable.encode()] = value
    return made
