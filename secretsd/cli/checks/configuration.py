"""config.toml and policy.yaml: whether they load, and what in them will go wrong or does nothing."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from secretsd import config as configuration
from secretsd import policy as policies
from secretsd.api.tls import pem_files
from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import (
    Check,
    Finding,
    Skip,
    combined,
    failure,
    listed,
    ok,
    plural,
    skipped,
    warning,
)
from secretsd.cli.checks.listening import CONNECT_SECS
from secretsd.cli.output import duration_text
from secretsd.cli.session import near
from secretsd.config import Bus
from secretsd.daemon.collisions import refuse_collisions
from secretsd.errors import StartupError
from secretsd.model import DAY_MS
from secretsd.policy import CertificateProof, NameSet, Policy, TokenProof
from secretsd.policy.names import is_glob
from secretsd.policy.rules import BUILT_IN

SOON_MS: Final = 14 * DAY_MS
HOW_TO_PROVE: Final = (
    "(umask 077; openssl rand -hex 32 > NAME.token); tr -d '\\n' < NAME.token | sha256sum   "
    "# the sum goes into the policy: clients.NAME.auth: [{token_sha256: SUM}], or [{uid: NUMBER}]; then reload"
)


def config(context: Context) -> Finding:
    """Load config.toml."""
    try:
        loaded = configuration.load(context.config_path)
        refuse_collisions(loaded)
    except StartupError as error:
        return failure(_one_line(error), f"correct {context.config_path} (docs/configuration.md), then look again")
    return combined(f"{loaded.source} is in order", [warning(said) for said in loaded.warnings])


def policy(context: Context) -> Finding:
    """Load policy.yaml. Who has no proof is another check's."""
    path = context.config.security.rbac_policy_path
    try:
        loaded = policies.load(path, context.config)
    except StartupError as error:
        return failure(_one_line(error), f"correct {path} (docs/policy.md); a running daemon keeps the old policy")
    said = [text for text in loaded.warnings if not _is_about_proof(text, loaded)]
    good = f"{plural(len(loaded.clients), 'client')}, {plural(len(loaded.rules) - len(BUILT_IN), 'rule')} in {path}"
    return combined(good, [warning(text, f"change {path}, then `systemctl reload jarvis-secretsd`") for text in said])


def _is_about_proof(text: str, loaded: Policy) -> bool:
    return any(text.startswith(f"clients.{name} has no auth") for name in loaded.unproven)


def proofs(context: Context) -> Finding:
    """See that each client has a proof."""
    unproven = context.policy.unproven
    if not unproven:
        return ok("every client proves who it is")
    return warning(
        f"{plural(len(unproven), 'client')} without a proof, so that any process here can pose as them: "
        f"{listed(unproven)}",
        *(HOW_TO_PROVE.replace("NAME", name) for name in unproven[:1]),
    )


def tokens(context: Context) -> Finding:
    """See that no token, nor a certificate's time in the policy, has run out or soon will."""
    return judge_tokens(context.policy, context.now_ms())


def judge_tokens(loaded: Policy, now_ms: int) -> Finding:
    """Judge each `not_after` of the policy: a client that can't prove itself any more is a failure."""
    findings = []
    for name, rule in loaded.clients.items():
        limits = [proof.not_after_ms for proof in rule.auth if isinstance(proof, TokenProof | CertificateProof)]
        ended = [limit for limit in limits if limit is not None and limit <= now_ms]
        lasting = [limit for limit in limits if limit is None or limit > now_ms + SOON_MS]
        other_proof = len(limits) < len(rule.auth)
        fix = HOW_TO_PROVE.replace("NAME", name)
        if ended and len(ended) == len(rule.auth):
            findings.append(failure(f"{name}: its proof ran out {_ago(now_ms - max(ended))} ago, it can't ask", fix))
        elif not lasting and not other_proof and limits:
            left = max(limit for limit in limits if limit is not None) - now_ms
            findings.append(warning(f"{name}: its proof runs out in {_ago(left)}", fix))
        elif ended:
            gone = plural(len(ended), "proof")
            findings.append(warning(f"{name}: {gone} ran out", f"take it out of clients.{name}.auth"))
    return combined("no proof runs out within 14 days", findings)


def _ago(milliseconds: int) -> str:
    return duration_text(milliseconds / 1000)


def patterns(context: Context) -> Finding:
    """See that each line of the policy stands for some secret."""
    secrets, loaded = context.secrets, context.policy
    if not secrets.complete:
        return skipped(
            f"this client may read {len(secrets.seen)} of {plural(secrets.total, 'secret')}",
            "name one that may read all with --client",
        )
    if not secrets.seen:
        raise Skip("the vault holds no secret yet")
    return judge_patterns(loaded, [one.name for one in secrets.seen])


def judge_patterns(loaded: Policy, names: Sequence[str]) -> Finding:
    """Judge the lines of the policy against the names in the vault."""
    idle = [
        (where, pattern) for where, pattern in _lines(loaded) if not any(name in NameSet([pattern]) for name in names)
    ]
    findings = []
    for pattern in dict.fromkeys(pattern for _, pattern in idle):
        where = [place for place, one in idle if one == pattern]
        hint = None if is_glob(pattern) else near(pattern, names)
        create = f"secretsctl put {pattern}" if not is_glob(pattern) else f"take {pattern} out of the policy"
        findings.append(warning(f"{pattern} ({listed(where)}) matches no secret", hint or create))
    return combined(f"every line matches one of {plural(len(names), 'secret')}", findings)


def _lines(loaded: Policy) -> Iterator[tuple[str, str]]:
    """Yield where each pattern of the file stands, and the pattern; one that means everything is left out."""
    for name, rule in loaded.clients.items():
        for what, held in (("allow", rule.allow), ("deny", rule.deny)):
            yield from ((f"clients.{name}.{what}", pattern) for pattern in held.patterns if pattern != "*")
    for one in loaded.rules[: len(loaded.rules) - len(BUILT_IN)]:
        yield "secrets", one.pattern


def certificates(context: Context) -> Finding:
    """See that no certificate has run out or soon will."""
    server, bus = context.config.server, context.config.bus
    own = [path for path in (server.tls_cert, bus.cert_file) if path is not None]
    own += [] if server.tls_client_certs is None else pem_files(server.tls_client_certs)
    authorities = [path for path in (server.tls_client_ca, bus.ca_file) if path is not None]
    if not own and not authorities and not bus.settings().tls:
        raise Skip("TLS is used nowhere")
    now = datetime.fromtimestamp(context.now_ms() / 1000, UTC)
    return combined(
        f"{plural(len(own) + len(authorities), 'file')} of certificates, none runs out within 14 days",
        [
            *(finding for path in dict.fromkeys(own) for finding in _certificate(path, now, min)),
            # Of several authorities one that lasts is enough.
            *(finding for path in dict.fromkeys(authorities) for finding in _certificate(path, now, max)),
            *_brokers(bus, now),
        ],
    )


def _brokers(bus: Bus, now: datetime) -> list[Finding]:
    """Judge the certificate that the broker shows; whether there is a broker is another check's question."""
    settings = bus.settings()
    if not bus.enabled or not settings.tls:
        return []
    try:
        shown = ssl.get_server_certificate((settings.host, settings.port), timeout=CONNECT_SECS)
        left = (x509.load_pem_x509_certificate(shown.encode()).not_valid_after_utc - now).total_seconds()
    except (OSError, ValueError):
        return []
    return _judge_time(f"the certificate of the broker at {bus.url}", left, "renew it, then restart the broker")


def _certificate(path: Path, now: datetime, choose: Callable[[Iterable[float]], float]) -> list[Finding]:
    fix = f"put a new certificate into {path}; a running daemon takes up its own by itself"
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no certificate in PEM"
        return [failure(f"{path}: {reason}", fix)]
    left = choose((one.not_valid_after_utc - now).total_seconds() for one in chain)
    return _judge_time(str(path), left, fix)


def _judge_time(what: str, left: float, fix: str) -> list[Finding]:
    if left <= 0:
        return [failure(f"{what} ran out {duration_text(-left)} ago", fix)]
    return [warning(f"{what} runs out in {duration_text(left)}", fix)] if left * 1000 < SOON_MS else []


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


CHECKS: Final = (
    Check("config", "Does config.toml load?", config),
    Check("policy", "Does policy.yaml load, and is nothing in it doubtful?", policy),
    Check("proofs", "Can every client prove who it is?", proofs),
    Check("tokens", "Has a token or certificate run out by the policy, or will it within 14 days?", tokens),
    Check("certificates", "Has a certificate run out, or will it within 14 days?", certificates),
    Check("patterns", "Does each line of the policy match a secret?", patterns),
)
