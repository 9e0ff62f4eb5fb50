"""policy.yaml: who may do what, and what kind of secret a name stands for (docs/policy.md)."""

from secretsd.policy.exposure import check_exposure, ended_proofs
from secretsd.policy.names import NameSet
from secretsd.policy.parse import load, parse
from secretsd.policy.rules import (
    CertificateMark,
    CertificateProof,
    ClientRule,
    Policy,
    Proof,
    SecretRule,
    SocketProof,
    TokenProof,
    UidProof,
)
from secretsd.policy.settings import SecretSettings, decide, ending, endless, requested_ms

__all__ = [
    "CertificateMark",
    "CertificateProof",
    "ClientRule",
    "NameSet",
    "Policy",
    "Proof",
    "SecretRule",
    "SecretSettings",
    "SocketProof",
    "TokenProof",
    "UidProof",
    "check_exposure",
    "decide",
    "ended_proofs",
    "ending",
    "endless",
    "load",
    "parse",
    "requested_ms",
]
