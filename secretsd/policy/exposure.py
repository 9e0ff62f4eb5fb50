"""Whether this policy is enough for where the daemon listens."""

from __future__ import annotations

from secretsd_bus import rfc3339

from secretsd.config import Config
from secretsd.errors import PolicyError
from secretsd.policy.rules import CertificateProof, Policy, TokenProof


def check_exposure(config: Config, policy: Policy) -> None:
    """Raise PolicyError while a client could pose as another where that isn't accepted.

    A client's own socket isn't the one for everybody.

    With `require_client_auth`, and on an address that other machines reach, each client needs a proof of the
    policy: without one its name in a header is all that it takes.
    """
    common = config.server.unix_socket_path
    if common in policy.socket_owners:
        raise PolicyError(
            f"{config.security.rbac_policy_path}: {common} is server.unix_socket_path, which is for everybody; give "
            f"{policy.socket_owners[common]} a socket of its own under auth"
        )
    unproven = policy.unproven
    if not unproven:
        return
    who = ", ".join(unproven[:10]) + (", …" if len(unproven) > 10 else "")
    remedy = (
        f"give each a token_sha256, a uid, a socket or a certificate under auth in "
        f"{config.security.rbac_policy_path}: {who}"
    )
    if config.security.require_client_auth:
        raise PolicyError(f"security.require_client_auth is true and {len(unproven)} clients have no proof; {remedy}")
    if not config.server.bind_addr.is_loopback:
        raise PolicyError(
            f"server.bind_addr {config.server.bind_addr} can be reached from other machines and "
            f"{len(unproven)} clients have no proof; {remedy}"
        )


def idle_certificates(config: Config, policy: Policy) -> list[str]:
    """Return a warning for each client with a certificate that can't prove it, because nobody is asked for one."""
    warnings = []
    for name, rule in policy.clients.items():
        kinds = {proof.mark[0] for proof in rule.auth if isinstance(proof, CertificateProof)}
        if kinds and not config.server.asks_for_certificates:
            warnings.append(
                f"clients.{name}.auth: no certificate proves it while server.tls_client_ca and tls_client_certs are "
                "empty; set one of them and restart"
            )
        elif kinds - {"sha256"} and config.server.tls_client_ca is None:
            warnings.append(
                f"clients.{name}.auth: cert_subject and cert_san count under an authority only; set "
                "server.tls_client_ca and restart, or give a cert_sha256"
            )
    return warnings


def ended_proofs(policy: Policy, now_ms: int) -> list[str]:
    """Return a warning for each token and certificate whose `not_after` is over."""
    return [
        f"clients.{name}.auth: a not_after, {rfc3339(proof.not_after_ms)}, is over: that proves nobody any more; give "
        "the client a new one or take it out"
        for name, rule in policy.clients.items()
        for proof in rule.auth
        if isinstance(proof, TokenProof | CertificateProof)
        and proof.not_after_ms is not None
        and proof.not_after_ms <= now_ms
    ]
