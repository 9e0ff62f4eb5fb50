"""What the package promises to export, and how it is configured."""

from __future__ import annotations

from pathlib import Path

import pytest
import secretsd_client
from secretsd_client import SecretsClient, SecretsError, Settings, Times
from secretsd_client._model import BusInfo

INFO = BusInfo("mqtt://broker:1883", "jarvis/secretsd", "node")


def test_the_api_is_this_and_nothing_else():
    assert secretsd_client.__all__ == [
        "AccessDenied",
        "AsyncSecretsClient",
        "AuthenticationFailed",
        "HttpTransport",
        "Response",
        "Secret",
        "SecretNotFound",
        "SecretsClient",
        "SecretsError",
        "SecretsUnavailable",
        "Settings",
        "Times",
        "Watch",
        "get_secret",
    ]
    public = {name for name in vars(secretsd_client) if not name.startswith("_")}
    assert public == set(secretsd_client.__all__)


@pytest.mark.parametrize("name", ["AccessDenied", "AuthenticationFailed", "SecretNotFound", "SecretsUnavailable"])
def test_every_error_is_a_secrets_error(name):
    assert getattr(secretsd_client, name).__bases__ == (SecretsError,)


def test_the_environment_says_everything():
    environment = {
        "JARVIS_SECRETS_URL": "unix:///run/s.sock",
        "JARVIS_CLIENT_ID": "backend",
        "JARVIS_CLIENT_TOKEN": "planted-token",
        "JARVIS_SECRETS_PUBKEY": "/etc/pub.pem",
        "JARVIS_MQTT_URL": "mqtts://broker",
        "JARVIS_MQTT_USERNAME": "user",
        "JARVIS_MQTT_PASSWORD_FILE": "/pw",
        "JARVIS_MQTT_CA_FILE": "/ca",
        "JARVIS_MQTT_CERT_FILE": "/cert",
        "JARVIS_MQTT_KEY_FILE": "/key",
    }
    settings = Settings.from_env(environment)
    assert settings == Settings(
        url="unix:///run/s.sock",
        client_id="backend",
        token="planted-token",
        pubkey=Path("/etc/pub.pem"),
        mqtt_url="mqtts://broker",
        mqtt_username="user",
        mqtt_password_file=Path("/pw"),
        mqtt_ca_file=Path("/ca"),
        mqtt_cert_file=Path("/cert"),
        mqtt_key_file=Path("/key"),
    )
    assert "planted" not in repr(settings)
    bus = settings.bus(INFO)
    assert (bus.url, bus.topic_prefix, bus.username) == ("mqtts://broker", "jarvis/secretsd", "user")
    assert (bus.password_file, bus.ca_file, bus.cert_file) == (Path("/pw"), Path("/ca"), Path("/cert"))


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setattr("secretsd_client._settings.default_url", lambda: "http://127.0.0.1:8081")
    assert Settings.from_env({"JARVIS_CLIENT_TOKEN": "", "JARVIS_SECRETS_URL": ""}) == Settings()


def test_without_a_broker_of_its_own_the_client_takes_the_daemon_s():
    assert Settings().bus(INFO).url == "mqtt://broker:1883"


@pytest.mark.parametrize(
    "environment",
    [
        {"JARVIS_SECRETS_URL": "nonsense"},
        {"JARVIS_CLIENT_TOKEN": "a", "JARVIS_CLIENT_TOKEN_FILE": "/b"},
        {"JARVIS_MQTT_URL": "http://broker"},
        {"JARVIS_SECRETS_PUBKEY": "/nowhere/pub.pem"},
        {"JARVIS_MQTT_PASSWORD_FILE": "/of/nobody"},
        {"JARVIS_MQTT_CERT_FILE": "/without/a/key"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_settings_that_make_no_sense_are_refused_where_the_client_is_made(environment):
    with pytest.raises(SecretsError):
        SecretsClient(Settings.from_env(environment))


def test_the_times_are_the_contract_s():
    assert Times() == Times(ttl_silent=30, ttl_without_bus=300, max_stale=3600)
