from __future__ import annotations

import secretsd_bus


def test_the_package_offers_this_and_nothing_else() -> None:
    assert sorted(secretsd_bus.__all__) == [
        "BusCommandFailed",
        "BusDenied",
        "BusError",
        "BusLost",
        "BusRejected",
        "BusSettings",
        "BusUnreachable",
        "Chain",
        "Event",
        "KeyRing",
        "Link",
        "Message",
        "PREFIX",
        "Refused",
        "SECRET_VERBS",
        "SigningKey",
        "Topics",
        "Unchained",
        "Verifier",
        "VerifyKey",
        "Will",
        "ZERO_HASH",
        "b64url_decode",
        "b64url_encode",
        "canonical",
        "follow_published",
        "key_rotated",
        "line_hash",
        "parse_time",
        "rfc3339",
        "verify_line",
    ]
    assert all(hasattr(secretsd_bus, name) for name in secretsd_bus.__all__)
