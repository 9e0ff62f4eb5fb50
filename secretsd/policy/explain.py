"""Why the policy allows or denies: the line that decides. `Policy.may` judges, this says by what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, get_args

from yaml.nodes import Node

from secretsd.config.reader import nearest
from secretsd.model import Capability
from secretsd.policy import document as d
from secretsd.policy.names import NameSet
from secretsd.policy.parse import parse
from secretsd.policy.rules import Policy

CONCERN_ALL: Final[frozenset[str]] = frozenset({"audit", "admin"})
"""Rights that are about no single secret: `allow` and `deny` don't matter."""

NEEDS: Final[dict[str, Capability]] = {
    **{capability: capability for capability in get_args(Capability)},
    "list": "read",
    "create": "write",
    "update": "write",
    "restore": "rotate",
    "cancel": "rotate",
}
"""The right that an action needs; actions are rights, or what the audit log calls them."""


@dataclass(frozen=True)
class Verdict:
    """An answer, and the line (from 1) of the policy's file that decides it."""

    allowed: bool
    line: int
    reason: str


@dataclass
class _Client:
    """Where the file speaks of a client."""

    line: int
    allow: list[Node] = field(default_factory=list)
    deny: list[Node] = field(default_factory=list)
    can: list[Node] | None = None
    can_line: int = 0


class Explained:
    """A policy's file, parsed for its answers and once more for its lines."""

    def __init__(self, content: bytes, *, source: str) -> None:
        """Raise PolicyError where the policy can't be used."""
        self.policy: Policy = parse(content, source=source)
        self._clients_line = 1
        self._clients: dict[str, _Client] = {}
        findings = d.Findings(source)
        for key, key_node, node in d.entries(d.compose(content, source), "the file", findings):
            if key == "clients":
                self._clients_line = _line(key_node)
                if not d.is_nothing(node):
                    self._clients = {
                        name: _client(name_node, entry, findings)
                        for name, name_node, entry in d.entries(node, "clients", findings)
                    }

    def why(self, client: str, capability: Capability, name: str | None) -> Verdict:
        """Return whether `client` may, and why. `name` None: what concerns no single secret."""
        where = self._clients.get(client)
        if where is None:
            near = nearest(client, tuple(self._clients))
            hint = f"; did you mean {near}?" if near else ""
            return Verdict(False, self._clients_line, f"there is no client {client}{hint}")
        held = self.policy.clients[client].can
        stated = next((node for node in where.can or () if d.text_of(node) == capability), None)
        can_line = where.line if where.can is None else where.can_line
        if capability not in held:
            listed = ", ".join(sorted(held)) or "nothing"
            said = f"can holds {listed}" if where.can is not None else f"no can is given, which means {listed}"
            return Verdict(False, can_line, f"{said}, not {capability}")
        right = "because allow is exactly *, and no can is given" if where.can is None else f"can holds {capability}"
        if where.can is None and held == {"read"}:
            right = "no can is given, which means read"
        if name is None:
            return Verdict(True, can_line if stated is None else _line(stated), right)
        return self._reach(where, name, f"{right} (line {can_line if stated is None else _line(stated)})")

    def _reach(self, where: _Client, name: str, right: str) -> Verdict:
        denied, allowed = _matching(where.deny, name), _matching(where.allow, name)
        if denied is not None:
            beaten = f", which beats {d.text_of(allowed)} of allow (line {_line(allowed)})" if allowed else ""
            return Verdict(False, _line(denied), f"deny holds {d.text_of(denied)}{beaten}")
        if allowed is not None:
            return Verdict(True, _line(allowed), f"allow holds {d.text_of(allowed)}, and {right}")
        return Verdict(False, where.line, f"nothing of allow matches {name}, and what isn't allowed is denied")


def _client(name: Node, entry: Node, findings: d.Findings) -> _Client:
    found = _Client(_line(name))
    for key, key_node, node in d.entries(entry, "client", findings):
        if key == "allow":
            found.allow = d.items(node, key, findings)
        elif key == "deny":
            found.deny = d.items(node, key, findings)
        elif key == "can":
            found.can, found.can_line = d.items(node, key, findings), _line(key_node)
    return found


def _matching(patterns: list[Node], name: str) -> Node | None:
    """Return the first that matches: which of several it is makes no difference to the answer."""
    return next((node for node in patterns if name in NameSet([d.text_of(node) or ""])), None)


def _line(node: Node) -> int:
    line: int = node.start_mark.line
    return line + 1
