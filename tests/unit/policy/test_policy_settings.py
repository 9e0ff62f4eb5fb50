"""What a new secret becomes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from secretsd.config import Security
from secretsd.errors import Problem
from secretsd.model import CreateSecret
from secretsd.policy import SecretRule, SecretSettings, decide, parse
from secretsd.policy.cron import Cron

HOUR = 3_600_000
DAY = 24 * HOUR

DEFAULTS = Security(
    rotation_ms=90 * DAY,
    grace_ms=14 * DAY,
    require_client_id_header=True,
    deny_network_remote=True,
    rbac_policy_path=Path("/policy.yaml"),
    require_client_auth=False,
)
NOTHING = SecretRule("")


def request(text: str = "") -> CreateSecret:
    return msgspec.json.decode(f'{{"name":"x"{text and ","}{text}}}', type=CreateSecret)


def built_in(name: str, text: str = "") -> SecretSettings:
    return decide(parse(b"clients: {}").rule_for(name), request(text), DEFAULTS)


def refusal(rule: SecretRule, text: str) -> str:
    with pytest.raises(Problem) as caught:
        decide(rule, request(text), DEFAULTS)
    assert (caught.value.slug, caught.value.status) == ("invalid-request", 422)
    return caught.value.detail


def test_without_rule_and_wish_a_given_value_is_external_and_a_generated_one_generic() -> None:
    assert decide(NOTHING, request('"value":"v"'), DEFAULTS) == SecretSettings(
        "external", "manual", 90 * DAY, 14 * DAY, False
    )
    assert decide(NOTHING, request(), DEFAULTS) == SecretSettings("generic", "manual", 90 * DAY, 14 * DAY, False)


def test_the_built_in_rules_decide_what_the_old_names_become() -> None:
    assert built_in("jwt_signing_key") == SecretSettings("jwt_signing_key", "auto", 90 * DAY, 14 * DAY, True)
    assert built_in("db_password") == SecretSettings("password", "manual", 90 * DAY, 14 * DAY, False)
    assert built_in("x_encryption_key") == SecretSettings("encryption_key", "manual", 90 * DAY, None, False)
    assert built_in("x_url", '"value":"v"') == SecretSettings("external", "manual", None, 14 * DAY, False)


def test_the_request_fills_what_the_rule_leaves_open() -> None:
    wish = request('"type":"api_key","rotation":"auto","rotation_period":"12h","grace_days":0')
    assert decide(NOTHING, wish, DEFAULTS) == SecretSettings("api_key", "auto", 12 * HOUR, 0, False)
    never = request('"rotation_period":"never","grace_period":"never"')
    assert decide(NOTHING, never, DEFAULTS) == SecretSettings("generic", "manual", None, None, False)


def test_the_rule_beats_the_defaults() -> None:
    rule = SecretRule("x", type="password", rotation="auto", rotation_ms=DAY, grace_ms=None)
    assert decide(rule, request(), DEFAULTS) == SecretSettings("password", "auto", DAY, None, False)


def test_a_request_that_agrees_with_the_rule_is_taken() -> None:
    rule = SecretRule("x", type="password", rotation="auto", rotation_ms=DAY, grace_ms=None)
    wish = request('"type":"password","rotation":"auto","rotation_days":1,"grace_period":"never"')
    assert decide(rule, wish, DEFAULTS).rotation_ms == DAY


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ('"type":"api_key"', "type"),
        ('"rotation":"manual"', "rotation"),
        ('"rotation_period":"2d"', "rotation_period"),
        ('"rotation_days":2', "rotation_days"),
        ('"grace_period":"1h"', "grace_period"),
        ('"grace_days":2', "grace_days"),
    ],
)
def test_a_request_that_contradicts_the_rule_is_refused(text: str, member: str) -> None:
    rule = SecretRule("x", type="password", rotation="auto", rotation_ms=DAY, grace_ms=None)
    assert refusal(rule, text).startswith(f"{member}: ")


@pytest.mark.parametrize(
    "text",
    [
        '"rotation_period":"1d","rotation_days":1',
        '"grace_period":"1d","grace_days":1',
        '"rotation_period":"0s"',
        '"rotation_period":"999999999d"',
        '"type":"external","rotation":"auto"',
        '"value":"v","rotation":"auto"',
    ],
)
def test_a_request_that_contradicts_itself_is_refused(text: str) -> None:
    refusal(NOTHING, text)


def test_an_external_secret_never_rotates_by_itself_even_by_rule() -> None:
    rule = SecretRule("x", type="external", rotation="auto")
    assert decide(rule, request('"value":"v"'), DEFAULTS).rotation == "manual"


def test_a_rule_that_lets_a_secret_rotate_makes_a_given_value_one_that_can_be_generated() -> None:
    settings = decide(SecretRule("x", rotation="auto"), request('"value":"v"'), DEFAULTS)
    assert (settings.type, settings.rotation) == ("generic", "auto")


def test_only_signing_keys_are_published_as_jwks() -> None:
    rule = SecretRule("x", jwks=True)
    assert decide(rule, request('"type":"jwt_signing_key"'), DEFAULTS).jwks is True
    assert decide(rule, request('"type":"password"'), DEFAULTS).jwks is False


def test_a_schedule_stands_in_place_of_a_period_and_no_request_says_otherwise() -> None:
    rule = SecretRule("x", rotation="auto", cron=Cron("@daily"))
    settings = decide(rule, request(), DEFAULTS)
    assert (settings.rotation_ms, settings.cron) == (None, rule.cron)
    assert "rotation_schedule" in refusal(rule, '"rotation_period":"30d"')
