"""From claims to a caller; a pure function, no message of which repeats what was sent."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from secretsd.auth.certificate import ClientCertificate
from secretsd.errors import Problem
from secretsd.model import AuthKind
from secretsd.policy import CertificateProof, Policy, Proof, TokenProof

Verdict = Literal["right", "wrong", "expired"]

_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
_NO_PROOFS: Final[tuple[Proof, ...]] = (TokenProof(bytes(32)),)
"""What the token of an unknown client is compared with; no token has this hash."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a request says and what its connection proves.

    `client` is the header as sent; `bearer` the token of "Authorization: Bearer", "" (which never matches)
    for any other scheme; `peer_uid` the user at the other end; `certificate` the one that it proved to have;
    `own_socket` the one client's socket that the connection came through, None for those that are everybody's;
    `instance` which of the client's processes it says it is, which nothing proves and nothing is granted for.
    """

    client: str | None = field(repr=False)  # a token may have been typed there
    bearer: str | None = field(repr=False)
    peer_uid: int | None
    peer: str
    request_id: str
    certificate: ClientCertificate | None = field(default=None, repr=False)
    own_socket: Path | None = None
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """A client that the policy knows, and how it was told apart."""

    client: str
    auth: AuthKind
    peer: str
    request_id: str
    instance: str | None = None


def identify(claims: Claims, policy: Policy, *, require_header: bool, now_ms: int) -> Caller:
    """Return who is asking, at `now_ms` (epoch milliseconds).

    Any one proof of the policy is enough, in this order: a token, the client's own socket, the client certificate of
    the connection, the uid of its peer; a client without any is taken at its word. A token that was sent must hold:
    one that isn't the client's is refused even where another proof fits or nothing was asked for. What comes through
    a client's own socket is this client or nobody, whatever else it presents. Without `require_header` the proof
    alone may name the client. Raises Problem: missing-client, unknown-client or bad-credential, all 401.
    """
    digest = None if claims.bearer is None else _digest(claims.bearer)
    client = claims.client or (None if require_header else _named_by_proof(claims, policy, digest, now_ms))
    if not client:
        alone = "" if require_header else ", or come with a proof that names it (token, certificate, uid, own socket)"
        raise _problem("missing-client", f"Name the client in the header X-Jarvis-Client{alone}.")
    rule = policy.clients.get(client)
    verdict = None if digest is None else _judge(digest, _NO_PROOFS if rule is None else rule.auth, now_ms)
    if rule is None:
        raise _problem(
            "unknown-client",
            "The policy has no client of the name in X-Jarvis-Client; correct the header (case matters), or "
            "add the client to policy.yaml and reload.",
        )
    if claims.own_socket is not None and policy.socket_owners.get(claims.own_socket) != client:
        raise _problem(
            "bad-credential",
            "The Unix socket that this came through is not this client's; use the client's own, or the one for "
            "everybody (server.unix_socket_path).",
        )
    certified = _judge_certificate(claims.certificate, rule.auth, now_ms)
    auth: AuthKind
    if verdict is not None:
        auth = _by_token(verdict)
    elif claims.own_socket is not None:
        auth = "socket"
    elif certified == "right":
        auth = "tls"
    elif claims.peer_uid is not None and client in policy.uid_owners.get(claims.peer_uid, ()):
        auth = "uid"
    elif not rule.auth:
        auth = "header"
    elif certified == "expired":
        raise _problem(
            "bad-credential",
            "The client certificate has expired, by itself or by not_after in the policy; connect with a new one.",
        )
    else:
        raise _problem(
            "bad-credential",
            "This client has to prove itself: send Authorization: Bearer with its token, connect over TLS with the "
            "certificate that the policy names, as the user whose uid, or through the socket that it gives.",
        )
    return Caller(client=client, auth=auth, peer=claims.peer, request_id=claims.request_id, instance=claims.instance)


def _digest(bearer: str) -> bytes:
    """Return the hash to look for: of no length, which equals none, where no token was sent.

    Surrogates stand for bytes that are no UTF-8, which no token holds.
    """
    if not bearer:
        return b""
    return hashlib.sha256(bearer.encode("utf-8", "surrogatepass")).digest()


def _judge(digest: bytes, proofs: Iterable[Proof], now_ms: int) -> Verdict:
    """Tell whether one of `proofs` is for the token of this hash; all of them are looked at."""
    verdict: Verdict = "wrong"
    for proof in proofs:
        if isinstance(proof, TokenProof) and hmac.compare_digest(proof.sha256, digest):
            if proof.not_after_ms is None or now_ms < proof.not_after_ms:
                verdict = "right"
            elif verdict == "wrong":
                verdict = "expired"
    return verdict


def _judge_certificate(certificate: ClientCertificate | None, proofs: Iterable[Proof], now_ms: int) -> Verdict:
    """Tell whether one of `proofs` is for this certificate, and whether that still holds."""
    verdict: Verdict = "wrong"
    if certificate is None:
        return verdict
    for proof in proofs:
        if isinstance(proof, CertificateProof) and proof.mark in certificate.marks:
            if certificate.valid(now_ms) and (proof.not_after_ms is None or now_ms < proof.not_after_ms):
                return "right"
            verdict = "expired"
    return verdict


def _by_token(verdict: Verdict) -> AuthKind:
    if verdict == "right":
        return "token"
    if verdict == "expired":
        raise _problem(
            "bad-credential",
            "The token has expired (not_after in the policy); have a new one issued and use that.",
        )
    raise _problem(
        "bad-credential",
        "The token is not one of this client; correct it, or leave Authorization out if the client has none.",
    )


def _named_by_proof(claims: Claims, policy: Policy, digest: bytes | None, now_ms: int) -> str | None:
    """Return the one client that the proof stands for, None where there is no proof.

    The token is looked up by its hash: how long that takes tells of the hash, from which no token follows.
    """
    if digest is not None:
        owners = policy.token_owners.get(digest, ())
        if not owners:
            _by_token("wrong")
        valid = tuple(one for one in owners if _judge(digest, policy.clients[one].auth, now_ms) == "right")
        return _only(valid or owners[:1], "This token")
    if claims.own_socket is not None:
        return policy.socket_owners.get(claims.own_socket)
    certified = _certified(claims.certificate, policy)
    valid = tuple(
        one for one in certified if _judge_certificate(claims.certificate, policy.clients[one].auth, now_ms) == "right"
    )
    if valid:
        return _only(valid, "This certificate")
    if claims.peer_uid is not None and (owners := policy.uid_owners.get(claims.peer_uid, ())):
        return _only(owners, "This user's uid")
    return next(iter(certified), None)


def _certified(certificate: ClientCertificate | None, policy: Policy) -> tuple[str, ...]:
    """Return the clients whose proof this certificate is, or was until it expired."""
    if certificate is None:
        return ()
    owners = (policy.certificate_owners.get(mark, ()) for mark in sorted(certificate.marks))
    return tuple(dict.fromkeys(client for clients in owners for client in clients))


def _only(owners: tuple[str, ...], what: str) -> str:
    if len(owners) == 1:
        return owners[0]
    raise _problem("missing-client", f"{what} stands for several clients; say which one in the header X-Jarvis-Client.")


def _problem(slug: str, detail: str) -> Problem:
    return Problem(slug, detail, headers=_CHALLENGE)
