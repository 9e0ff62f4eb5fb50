"""Where the daemon and the broker are, and who this client is."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from secretsd_bus import BusSettings

from secretsd_client._errors import SecretsError
from secretsd_client._http import DEFAULT_URL, HttpTransport, default_url
from secretsd_client._model import BusInfo
from secretsd_client._state import Times
from secretsd_client._trust import Trust


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a client can be told. The token isn't shown in repr."""

    url: str = DEFAULT_URL
    """`http://host:port`, `https://host:port` or `unix:///path`."""
    client_id: str | None = None
    instance: str | None = None
    """Which of several processes of this client it is; the same after a restart, as `web-1`."""
    acknowledge: bool = True
    """Whether the daemon is told that a version is in use, once all callbacks for it have run."""
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    ca_file: Path | None = None
    """With `https://`: whom to trust, None for the system's authorities; and a certificate that proves the client."""
    cert_file: Path | None = None
    key_file: Path | None = None
    pubkey: Path | None = None
    """A PEM of the daemon's event-signing key; None: the daemon is asked over HTTP."""
    mqtt_url: str | None = None
    """None: the daemon is asked (`GET /bus`)."""
    mqtt_username: str | None = None
    mqtt_password_file: Path | None = None
    mqtt_ca_file: Path | None = None
    mqtt_cert_file: Path | None = None
    mqtt_key_file: Path | None = None
    timeout_secs: float = 5.0
    """How long one question to the daemon may take, and the broker's answer to a subscription."""
    times: Times = field(default_factory=Times)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, default_client_id: str | None = None) -> Self:
        """Read the JARVIS_* variables (docs/client.md lists them); an empty one counts as not set."""

        def text(name: str) -> str | None:
            return environ.get(name) or None

        def path(name: str) -> Path | None:
            return Path(value) if (value := environ.get(name)) else None

        return cls(
            url=text("JARVIS_SECRETS_URL") or default_url(),
            client_id=text("JARVIS_CLIENT_ID") or default_client_id,
            instance=text("JARVIS_CLIENT_INSTANCE"),
            acknowledge=_switch(text("JARVIS_CLIENT_ACKNOWLEDGE")),
            token=text("JARVIS_CLIENT_TOKEN"),
            token_file=path("JARVIS_CLIENT_TOKEN_FILE"),
            ca_file=path("JARVIS_SECRETS_CA_FILE"),
            cert_file=path("JARVIS_CLIENT_CERT_FILE"),
            key_file=path("JARVIS_CLIENT_KEY_FILE"),
            pubkey=path("JARVIS_SECRETS_PUBKEY"),
            mqtt_url=text("JARVIS_MQTT_URL"),
            mqtt_username=text("JARVIS_MQTT_USERNAME"),
            mqtt_password_file=path("JARVIS_MQTT_PASSWORD_FILE"),
            mqtt_ca_file=path("JARVIS_MQTT_CA_FILE"),
            mqtt_cert_file=path("JARVIS_MQTT_CERT_FILE"),
            mqtt_key_file=path("JARVIS_MQTT_KEY_FILE"),
        )

    def transport(self) -> HttpTransport:
        """Return a transport to the daemon; SecretsError when the settings make no sense."""
        return HttpTransport(
            self.url,
            client_id=self.client_id,
            instance=self.instance,
            token=self.token,
            token_file=self.token_file,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            timeout_secs=self.timeout_secs,
        )

    def bus(self, info: BusInfo) -> BusSettings:
        """Return how to connect to the broker; SecretsError when the settings make no sense."""
        try:
            return BusSettings(
                url=self.mqtt_url or info.url,
                topic_prefix=info.topic_prefix,
                username=self.mqtt_username,
                password_file=self.mqtt_password_file,
                ca_file=self.mqtt_ca_file,
                cert_file=self.mqtt_cert_file,
                key_file=self.mqtt_key_file,
            )
        except ValueError as error:
            message = str(error)
        raise SecretsError(f"the broker's settings make no sense: {message}")

    def check(self) -> None:
        """Raise SecretsError now for what would fail later: the client is made where errors are looked at."""
        self.transport()
        Trust.from_pem_file(self.pubkey)
        # Where the daemon will name the broker, the rest of its settings has to make sense all the same.
        scheme = "mqtts" if self.mqtt_ca_file or self.mqtt_cert_file or self.mqtt_key_file else "mqtt"
        self.bus(BusInfo(url=f"{scheme}://broker", topic_prefix="jarvis/secretsd", node="node"))


def _switch(text: str | None) -> bool:
    if text is None or text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise SecretsError("JARVIS_CLIENT_ACKNOWLEDGE is on or off")
