"""policy.yaml from bytes to a Policy; docs/policy.md says what it may hold."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Final

from yaml.nodes import Node

from secretsd import files
from secretsd.config import Config
from secretsd.errors import PolicyError
from secretsd.policy import document as d
from secretsd.policy.client import parse_client
from secretsd.policy.exposure import check_exposure, idle_certificates
from secretsd.policy.feasible import Ruled, check_distances, check_own_secrets, window_warnings
from secretsd.policy.rules import (
    BUILT_IN,
    CertificateMark,
    CertificateProof,
    ClientRule,
    Policy,
    SocketProof,
    TokenProof,
)
from secretsd.policy.secret import parse_secret_rule, shadow_warnings
from secretsd.policy.timing import parse_windows
from secretsd.policy.windows import Window

_KEYS: Final = ("default_deny", "clients", "windows", "secrets")


def load(path: Path, config: Config) -> Policy:
    """Return the policy in the file at `path`, fit for where `config` lets the daemon listen.

    Where the policy was handed over as a credential, that is read and `path` is only what messages call it. Raises
    PolicyError, which names all mistakes found, each with its line.
    """
    try:
        content = files.read_regular(config.policy_credential or path, d.MAX_BYTES + 1)
    except FileNotFoundError:
        raise PolicyError(
            f"{path} doesn't exist; set security.rbac_policy_path, or let `secretsctl init` write a policy"
        ) from None
    except OSError as error:
        where = f", handed over as {config.policy_credential}," if config.policy_credential else ""
        raise PolicyError(f"{path}{where} can't be read: {error.strerror}") from None
    policy = parse(content, source=str(path))
    check_exposure(config, policy)
    return replace(policy, warnings=(*policy.warnings, *idle_certificates(config, policy)))


def parse(content: bytes, *, source: str = "policy.yaml") -> Policy:
    """Return the policy that `content` holds; `source` is what messages call it. Raises PolicyError."""
    findings = d.Findings(source)
    clients: dict[str, ClientRule] = {}
    secrets: Node | None = None
    windows: dict[str, Window] = {}
    for key, key_node, node in d.entries(d.compose(content, source), "the file", findings):
        if key == "default_deny":
            _check_default_deny(node, findings)
        elif key == "clients":
            clients = _clients(node, findings)
        elif key == "secrets":
            secrets = node
        elif key == "windows":
            windows = parse_windows(node, findings)
        else:
            d.unknown_key(key_node, "the file", _KEYS, findings)
    # After the windows, wherever in the file those are.
    ruled = [] if secrets is None else _rules(secrets, windows, findings)
    check_distances(ruled, findings)
    check_own_secrets(ruled, findings)
    findings.raise_if_any()
    rules = [rule for rule, _ in ruled]
    if not clients:
        findings.warnings.append("no client is listed under clients: nobody may do anything")
    findings.warnings += _shared_proofs(clients)
    all_rules = (*rules, *BUILT_IN)
    findings.warnings += shadow_warnings(rules, all_rules)
    findings.warnings += window_warnings(ruled)
    return Policy(
        clients=clients,
        rules=all_rules,
        sha256=hashlib.sha256(content).hexdigest(),
        warnings=tuple(findings.warnings),
    )


def _check_default_deny(node: Node, findings: d.Findings) -> None:
    meaning = d.boolean_of(node)
    if meaning is None:
        findings.misfit(node, "default_deny", "true")
    elif not meaning:
        findings.note(
            node,
            "default_deny",
            "false would allow whatever isn't denied; set it to true and list what is allowed",
        )


def _clients(node: Node, findings: d.Findings) -> dict[str, ClientRule]:
    if d.is_nothing(node):
        return {}
    clients: dict[str, ClientRule] = {}
    owners: dict[Path, str] = {}
    for name, key_node, value in d.entries(node, "clients", findings):
        rule = parse_client(name, key_node, value, findings)
        if rule is None:
            continue
        clients[name] = rule
        for path in (proof.path for proof in rule.auth if isinstance(proof, SocketProof)):
            if owners.setdefault(path, name) != name:
                findings.note(
                    key_node, f"clients.{name}.auth", f"{path} is the socket of {owners[path]}; give each its own"
                )
    return clients


def _rules(node: Node, windows: dict[str, Window], findings: d.Findings) -> list[Ruled]:
    if d.is_nothing(node):
        return []
    ruled: list[Ruled] = []
    for pattern, key, value in d.entries(node, "secrets", findings):
        rule = parse_secret_rule(pattern, key, value, windows, findings)
        if rule is not None:
            ruled.append((rule, key))
    return ruled


def _shared_proofs(clients: dict[str, ClientRule]) -> list[str]:
    """Return a warning for each token or certificate of several clients: the log can't tell who of them it was."""
    owners: dict[bytes | CertificateMark, list[str]] = {}
    for name, rule in clients.items():
        shareable = (
            proof.sha256 if isinstance(proof, TokenProof) else proof.mark
            for proof in rule.auth
            if isinstance(proof, (TokenProof, CertificateProof))
        )
        for proof in dict.fromkeys(shareable):
            owners.setdefault(proof, []).append(name)
    return [
        f"clients {', '.join(names)} share a {'token' if isinstance(proof, bytes) else 'certificate'}: whoever has it "
        "can be any of them; give each its own"
        for proof, names in owners.items()
        if len(names) > 1
    ]
