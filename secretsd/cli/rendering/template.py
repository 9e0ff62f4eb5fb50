"""A template: which secrets its text names, and what it becomes with their values. Pure, and in a sandbox.

Errors of rendering may carry values (a key that a mapping doesn't have, a number that doesn't parse), so that nothing
of theirs is passed on but the line. And a name never comes from a value: asking for it would write it to the audit log.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from secretsd_client import Secret

from secretsd.cli.rendering.values import FILTERS, Binary, NotText, Text, value_of
from secretsd.cli.session import near
from secretsd.model import is_name

_OUTSIDE: Final = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


class BadTemplate(ValueError):
    """The template can't be used; the message says where and why. It never holds a value."""


@dataclass(frozen=True)
class Wants:
    """The template asks for a secret that it wasn't given."""

    name: str


@dataclass(frozen=True)
class Rendered:
    """What the template became, and the secrets that it used."""

    data: bytes = field(repr=False)
    used: frozenset[str]


class _Wanted(Exception):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class _Computed(Exception):
    """A secret's name isn't written in the template."""


class _Undefined(jinja2.StrictUndefined):
    """What isn't there, and may not even be tested for truth. Its message is looked at by `_reason` alone."""

    @property
    def missing(self) -> str:
        """Return the name that was looked for."""
        return str(self._undefined_name)

    def _fail_with_undefined_error(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        if issubclass(self._undefined_exception, SecurityError):
            raise SecurityError
        raise _Missing(self.missing)

    # Jinja's own table of methods that fail holds the method of its own class.
    __iter__ = __str__ = __len__ = __eq__ = __ne__ = __bool__ = __hash__ = _fail_with_undefined_error
    __getattr__ = __call__ = __getitem__ = _fail_with_undefined_error


class _Missing(Exception):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class Template:
    """One template's text, ready to be rendered again and again."""

    def __init__(self, source: str, called: str) -> None:
        """Read it. `called` is what messages call it. Raises BadTemplate."""
        self.called = called
        environment = ImmutableSandboxedEnvironment(
            undefined=_Undefined, autoescape=False, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters.update(FILTERS)
        environment.globals.pop("lipsum")
        self._source = source
        try:
            tree = environment.parse(source)
            code = environment.compile(source, name=called, filename=called)
        except jinja2.TemplateSyntaxError as error:
            complaint = f"line {error.lineno}: {error.message}"
        except RecursionError:
            complaint = "nested too deep"
        else:
            self._constants = frozenset(one.value for one in tree.find_all(nodes.Const) if isinstance(one.value, str))
            self._words = frozenset(one.attr for one in tree.find_all(nodes.Getattr)) | self._constants
            self.names = _check(tree, called, frozenset(environment.globals))
            self._compiled = jinja2.Template.from_code(environment, code, environment.make_globals(None))
            return
        raise BadTemplate(f"{called}, {complaint}")

    @property
    def source(self) -> str:
        """The template's own text."""
        return self._source

    def render(self, secrets: Mapping[str, Secret]) -> Rendered | Wants:
        """Return what it becomes, or the secret that it asks for and isn't among `secrets`. Raises BadTemplate."""
        used: set[str] = set()

        def secret(name: str) -> Text | Binary:
            if type(name) is not str or name not in self._constants or not is_name(name):
                raise _Computed
            if name not in secrets:
                raise _Wanted(name)
            used.add(name)
            return value_of(secrets[name])

        try:
            return Rendered(self._compiled.render(secret=secret).encode(), frozenset(used))
        except _Wanted as wanted:
            return Wants(wanted.name)
        except Exception as error:  # noqa: BLE001 — whatever Python and Jinja raise, and their messages may hold values
            line = next(
                (
                    lineno
                    for frame, lineno in reversed(list(traceback.walk_tb(error.__traceback__)))
                    if frame.f_code.co_filename == self.called
                ),
                None,
            )
            complaint = f"{self.called}, line {line}: {self._reason(error)}" if line else self._reason(error)
        raise BadTemplate(complaint)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, _Missing):
            known = f"{error.name!r} is" if error.name in self._words else "something is"
            return f"{known} not there"
        if isinstance(error, NotText):
            return str(error)
        if isinstance(error, _Computed):
            return "a secret's name has to be written in the template, as in secret('name')"
        if isinstance(error, SecurityError):
            return "templates may not do that (they run in a sandbox)"
        return f"{type(error).__name__} (its message isn't shown: it may hold a value)"


def _check(tree: nodes.Template, called: str, known: frozenset[str]) -> frozenset[str]:
    """Return the secrets that are asked for by name. Raises BadTemplate for what is wrong without rendering."""
    for outside in tree.find_all(_OUTSIDE):
        raise BadTemplate(f"{called}, line {outside.lineno}: a template can't read other files")
    undeclared = meta.find_undeclared_variables(tree) - known - {"secret"}
    for name in tree.find_all(nodes.Name):
        if name.name in undeclared and name.ctx == "load":
            hint = near(name.name, {"secret", *known})
            complaint = f"nothing is called {name.name}" + (f"; {hint}" if hint else "")
            raise BadTemplate(f"{called}, line {name.lineno}: {complaint}")
    names = set()
    for call in tree.find_all(nodes.Call):
        if not isinstance(call.node, nodes.Name) or call.node.name != "secret":
            continue
        first, rest = (call.args[0], call.args[1:]) if call.args else (None, [])
        fits = not isinstance(first, nodes.Const) or (isinstance(first.value, str) and is_name(first.value))
        if first is None or rest or call.kwargs or not fits:
            raise BadTemplate(f"{called}, line {call.lineno}: secret() takes one secret's name")
        if isinstance(first, nodes.Const):
            names.add(str(first.value))
    return frozenset(names)
