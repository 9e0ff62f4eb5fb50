"""YAML, read strictly: a tree of nodes that know their line; no aliases, no doubled keys, no foreign tags.

Scalars are judged by how they are written: `yes` is a boolean, 2027-01-01T00:00:00Z is text that looks like a
time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from secretsd.config.reader import nearest, shown
from secretsd.errors import PolicyError

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 8

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it, which is faster. Nodes are composed, no object is constructed."""

_TAG: Final = "tag:yaml.org,2002:"
_KINDS: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a float",
    "bool": "a boolean",
    "null": "nothing",
    "timestamp": "a time",
    "seq": "a list",
    "map": "a mapping",
}


class _Mark(Protocol):
    """A place in the file: Python's and libyaml's marks have nothing else in common."""

    @property
    def line(self) -> int: ...


class Findings:
    """Everything that is wrong with one file, and what is only doubtful about it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.warnings: list[str] = []
        self._complaints: list[str] = []

    @property
    def count(self) -> int:
        """How many mistakes were noted so far."""
        return len(self._complaints)

    def note(self, node: Node, where: str, complaint: str) -> None:
        """Remember that what stands at `node`, called `where`, can't be used."""
        self._complaints.append(f"line {node.start_mark.line + 1}: {where}: {complaint}")

    def misfit(self, node: Node, where: str, allowed: str) -> None:
        """Remember that `node` is something else than `allowed`; only its kind is told, never its content."""
        self.note(node, where, f"found {kind_of(node)}; allowed: {allowed}")

    def raise_if_any(self) -> None:
        """Raise PolicyError with all that was noted."""
        if self._complaints:
            raise PolicyError("\n  ".join([f"{self.source} can't be used; correct it:", *self._complaints]))


def compose(content: bytes, source: str) -> Node:
    """Return the tree of the one document in `content`. Raises PolicyError with the line at fault."""
    if len(content) > MAX_BYTES:
        raise PolicyError(f"{source} is over 1 MiB; that is no policy")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PolicyError(f"{source}, line {line}: not UTF-8; save the file as UTF-8 text") from None
    try:
        _check_bounds(text, source)
        node: Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise PolicyError(f"{_at(source, error.problem_mark)}: not YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise PolicyError(f"{source}: holds characters that YAML doesn't allow") from None
    if node is None:
        raise PolicyError(f"{source} is empty; `secretsctl init` writes a policy to start from")
    return node


def _check_bounds(text: str, source: str) -> None:
    """Refuse what could grow without bound, before there is a tree of it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise PolicyError(f"{_at(source, event.start_mark)}: anchors and aliases aren't taken; write it out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise PolicyError(f"{_at(source, event.start_mark)}: nested too deep")


def _at(source: str, mark: _Mark | None) -> str:
    return source if mark is None else f"{source}, line {mark.line + 1}"


def kind_of(node: Node) -> str:
    """Return how a message calls what `node` is."""
    return _KINDS.get(_short_tag(node), "a value with a tag")


def entries(node: Node, where: str, findings: Findings) -> Iterator[tuple[str, ScalarNode, Node]]:
    """Yield each key of a mapping, its node and its value's, in the file's order; what is no key is noted."""
    if not isinstance(node, MappingNode) or _short_tag(node) != "map":
        findings.misfit(node, where, "a mapping")
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode) or _short_tag(key) != "str":
            findings.misfit(key, where, "keys that are strings; put it in quotes")
            continue
        if key.value in seen:
            findings.note(key, where, f"the key {shown(key.value)} is there twice, first in line {seen[key.value]}")
            continue
        seen[key.value] = key.start_mark.line + 1
        yield key.value, key, value


def unknown_key(key: ScalarNode, where: str, known: tuple[str, ...], findings: Findings) -> None:
    """Note that `key` is none of `known`."""
    near = nearest(key.value, known)
    hint = f"did you mean {near}? " if near else ""
    findings.note(key, where, f"unknown key {shown(key.value)}; {hint}allowed: {', '.join(known)}")


def items(node: Node, where: str, findings: Findings) -> list[Node]:
    """Return the nodes of a list; nothing at all is an empty one."""
    if isinstance(node, SequenceNode) and _short_tag(node) == "seq":
        return list(node.value)
    if not is_nothing(node):
        findings.misfit(node, where, "a list")
    return []


def is_nothing(node: Node) -> bool:
    """Tell whether the key has no value."""
    return _short_tag(node) == "null"


def text_of(node: Node, *, also: tuple[str, ...] = ()) -> str | None:
    """Return what a string says, None for anything else.

    `also` names kinds of plain scalars that are taken as they are written: ("int", "float") for hexadecimal
    digits, which YAML may take for a number.
    """
    if isinstance(node, ScalarNode) and _short_tag(node) in ("str", *also):
        text: str = node.value
        return text
    return None


def integer_of(node: Node) -> int | None:
    """Return a decimal integer, None for anything else; YAML's 017, 1:30 and 1_000 are none."""
    if _short_tag(node) == "int" and re.fullmatch(r"0|[1-9][0-9]{0,15}", node.value):
        return int(node.value)
    return None


def boolean_of(node: Node) -> bool | None:
    """Return a boolean (true, false and YAML's yes, no, on, off), None for anything else."""
    if _short_tag(node) != "bool":
        return None
    meaning: bool | None = yaml.SafeLoader.bool_values.get(node.value.lower())
    return meaning


def plain(node: Node, where: str, findings: Findings) -> object:
    """Return what `node` holds as plain values; what is neither text, integer, boolean, list nor mapping is noted."""
    if isinstance(node, MappingNode):
        return {key: plain(value, f"{where}.{key}", findings) for key, _, value in entries(node, where, findings)}
    if isinstance(node, SequenceNode):
        return [plain(item, f"{where}[{place}]", findings) for place, item in enumerate(items(node, where, findings))]
    for found in (text_of(node), integer_of(node), boolean_of(node)):
        if found is not None:
            return found
    if not is_nothing(node):
        findings.misfit(node, where, "a string in quotes, a decimal integer of at most 16 digits, true or false")
    return None


def descend(node: Node, path: tuple[str, ...]) -> Node:
    """Return the node that `path`, of keys and places in lists, leads to below `node`; as far as there is one."""
    for step in path:
        found: Node | None = None
        if isinstance(node, MappingNode):
            found = next((value for key, value in node.value if key.value == step), None)
        elif isinstance(node, SequenceNode) and step.isdigit() and int(step) < len(node.value):
            found = node.value[int(step)]
        if found is None:
            break
        node = found
    return node


def _short_tag(node: Node) -> str:
    tag: str = node.tag
    return tag.removeprefix(_TAG)
