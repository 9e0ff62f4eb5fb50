"""Client certificates in policy.yaml: what is taken, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsd.config import load as load_config
from secretsd.errors import PolicyError
from secretsd.policy import CertificateProof, load, parse

DIGEST = "0123456789" * 6 + "abcd"
COLONS = ":".join(DIGEST[at : at + 2] for at in range(0, 64, 2)).upper()


def auth(entry: str) -> tuple[object, ...]:
    return parse(f"clients:\n  web: {{allow: [x], auth: [{entry}]}}\n".encode()).clients["web"].auth


@pytest.mark.parametrize(
    ("entry", "mark"),
    [
        (f"{{cert_sha256: {DIGEST}}}", ("sha256", DIGEST)),
        (f'{{cert_sha256: "{COLONS}"}}', ("sha256", DIGEST)),
        (f"{{cert_sha256: {'12' * 32}}}", ("sha256", "12" * 32)),
        ('{cert_subject: "CN=backend"}', ("subject", "CN=backend")),
        ('{cert_subject: "cn=backend, O=home"}', None),
        ('{cert_subject: "CN=a\\\\,b,O=home"}', ("subject", "CN=a\\,b,O=home")),
        ('{cert_san: "DNS:Web.LAN"}', ("san", "DNS:web.lan")),
        ('{cert_san: "URI:spiffe://home/Web"}', ("san", "URI:spiffe://home/Web")),
    ],
)
def test_a_certificate_is_named_by_hash_subject_or_alternative_name(entry: str, mark: tuple[str, str] | None) -> None:
    if mark is None:
        with pytest.raises(PolicyError):
            auth(entry)
    else:
        assert auth(entry) == (CertificateProof(mark),)  # type: ignore[arg-type]  # parametrized


def test_it_may_end_at_a_time_as_tokens_do() -> None:
    assert auth('{cert_subject: "CN=a", not_after: "2027-01-15T08:00:00Z"}') == (
        CertificateProof(("subject", "CN=a"), 1_800_000_000_000),
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{cert_sha256: abc}", "64 hex digits"),
        (f"{{cert_sha256: {DIGEST[:-2]}}}", "64 hex digits"),
        ("{cert_subject: backend}", "RFC 4514"),
        ('{cert_subject: ""}', "RFC 4514"),
        ("{cert_subject: 7}", "RFC 4514"),
        ("{cert_san: web.lan}", "DNS:backend.lan"),
        ('{cert_san: "DNS:*.lan"}', "DNS:backend.lan"),
        ('{cert_san: "IP:10.0.0.1"}', "DNS:backend.lan"),
        ('{cert_sha: "x"}', "did you mean"),
        (f'{{cert_sha256: {DIGEST}, cert_subject: "CN=a"}}', "two proofs are two entries"),
        ('{uid: 7, not_after: "2027-01-15T08:00:00Z"}', "two proofs are two entries"),
        ('{not_after: "2027-01-15T08:00:00Z"}', "two proofs are two entries"),
        ("{}", "two proofs are two entries"),
    ],
)
def test_what_makes_no_sense_is_refused_with_line_and_remedy(entry: str, said: str) -> None:
    with pytest.raises(PolicyError, match=r"line 2: clients\.web\.auth") as caught:
        auth(entry)
    assert said in str(caught.value)


def test_a_certificate_of_two_clients_is_warned_about() -> None:
    policy = parse(
        f"clients:\n  a: {{allow: [x], auth: [{{cert_sha256: {DIGEST}}}]}}\n"
        f"  b: {{allow: [x], auth: [{{cert_sha256: {DIGEST}}}]}}\n".encode()
    )
    assert [one for one in policy.warnings if "clients a, b share a certificate" in one]


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("", "server.tls_client_ca and tls_client_certs are empty"),
        ('tls_cert = "c"\ntls_key = "k"\ntls_client_certs = "p"', "under an authority only"),
        ('tls_cert = "c"\ntls_key = "k"\ntls_client_ca = "a"', None),
    ],
)
def test_a_certificate_that_can_prove_nothing_under_this_configuration_is_warned_about(
    tmp_path: Path, server: str, said: str | None
) -> None:
    (tmp_path / "config.toml").write_text(f"[server]\n{server}\n")
    (tmp_path / "policy.yaml").write_text('clients:\n  web: {allow: [x], auth: [{cert_subject: "CN=web"}]}\n')
    warnings = load(tmp_path / "policy.yaml", load_config(tmp_path / "config.toml", {})).warnings
    assert (len(warnings), said is None or said in warnings[0]) == (0 if said is None else 1, True)
