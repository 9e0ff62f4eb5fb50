from pathlib import Path

import pytest

from demo import broker
from demo.errors import TryoutError

MOSQUITTO = "/usr/sbin/mosquitto"


@pytest.mark.parametrize(
    ("env", "mosquitto", "amqtt", "kind"),
    [
        ({"BUS_URL": "mqtt://hub:1883"}, MOSQUITTO, True, "yours"),
        ({}, MOSQUITTO, True, "mosquitto"),
        ({}, None, True, "amqtt"),
        ({"BUS_URL": ""}, MOSQUITTO, False, "mosquitto"),
        ({"BROKER": "amqtt"}, MOSQUITTO, True, "amqtt"),
    ],
)
def test_your_broker_goes_before_mosquitto_and_that_before_amqtt(
    env: dict[str, str], mosquitto: str | None, amqtt: bool, kind: str
) -> None:
    assert broker.choose(env, mosquitto=mosquitto, amqtt=amqtt) == kind


@pytest.mark.parametrize("env", [{}, {"BROKER": "mosquitto"}, {"BROKER": "amqtt"}, {"BROKER": "other"}])
def test_without_a_broker_the_error_says_how_to_get_one(env: dict[str, str]) -> None:
    with pytest.raises(TryoutError, match=r"apt-get install mosquitto.*BUS_URL="):
        broker.choose(env, mosquitto=None, amqtt=False)


def test_a_broker_of_yours_gets_a_prefix_that_no_real_vault_uses() -> None:
    settings = broker.settings_of_yours({"BUS_URL": "mqtt://hub:1883"})
    assert settings.topic_prefix != "jarvis/secretsd"


def test_a_broker_of_yours_takes_its_credentials_from_files() -> None:
    settings = broker.settings_of_yours(
        {"BUS_URL": "mqtts://hub", "BUS_USERNAME": "me", "BUS_PASSWORD_FILE": "/etc/pw", "BUS_PREFIX": "p"}
    )
    assert (settings.username, settings.password_file, settings.topic_prefix) == ("me", Path("/etc/pw"), "p")


def test_a_url_that_is_none_is_named() -> None:
    with pytest.raises(TryoutError, match="BUS_URL"):
        broker.settings_of_yours({"BUS_URL": "http://hub"})
