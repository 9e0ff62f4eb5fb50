//! How a client is told its settings: one by one, or by the environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::client::SecretsClient;
use crate::error::{Result, SecretsError};
use crate::settings::Settings;
use crate::socket::usable_default;
use crate::state::Times;
use crate::tls::TlsFiles;

const DEFAULT_URL: &str = "http://127.0.0.1:8081";

/// Settings for a client, one by one: [`SecretsClient::builder`].
///
/// What isn't set has the default of the environment variable that docs/client.md names for it, as if that were not set.
#[derive(Debug, Clone)]
#[must_use = "a builder makes a client only when `build` is called"]
pub struct Builder {
    settings: Settings,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            settings: Settings {
                url: default_url(),
                client_id: None,
                instance: None,
                acknowledge: true,
                token: None,
                token_file: None,
                tls: TlsFiles::default(),
                pubkey: None,
                mqtt_url: None,
                mqtt_username: None,
                mqtt_password_file: None,
                mqtt_tls: TlsFiles::default(),
                timeout: Duration::from_secs(5),
                times: Times::default(),
            },
        }
    }
}

impl Builder {
    /// Reads the JARVIS_* variables of the process.
    pub(crate) fn from_env() -> Result<Self> {
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy();
            // A key's path that can't be read must not count as no key.
            if name.starts_with("JARVIS_") && value.to_str().is_none() {
                return Err(SecretsError::Settings(format!("{name} is not UTF-8")));
            }
        }
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Reads them through `variable`; an empty one counts as not set.
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let text = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| text(name).map(PathBuf::from);
        let files = |ca: &str, cert: &str, key: &str| TlsFiles {
            ca: path(ca),
            cert: path(cert),
            key: path(key),
        };
        let acknowledge = match text("JARVIS_CLIENT_ACKNOWLEDGE")
            .map(|text| text.to_lowercase())
            .as_deref()
        {
            None | Some("1" | "true" | "yes" | "on") => true,
            Some("0" | "false" | "no" | "off") => false,
            Some(_) => return Err(SecretsError::Settings("JARVIS_CLIENT_ACKNOWLEDGE is on or off".into())),
        };
        Ok(Self {
            settings: Settings {
                url: text("JARVIS_SECRETS_URL").unwrap_or_else(default_url),
                client_id: text("JARVIS_CLIENT_ID"),
                instance: text("JARVIS_CLIENT_INSTANCE"),
                acknowledge,
                token: text("JARVIS_CLIENT_TOKEN").map(SecretString::from),
                token_file: path("JARVIS_CLIENT_TOKEN_FILE"),
                tls: files(
                    "JARVIS_SECRETS_CA_FILE",
                    "JARVIS_CLIENT_CERT_FILE",
                    "JARVIS_CLIENT_KEY_FILE",
                ),
                pubkey: path("JARVIS_SECRETS_PUBKEY"),
                mqtt_url: text("JARVIS_MQTT_URL"),
                mqtt_username: text("JARVIS_MQTT_USERNAME"),
                mqtt_password_file: path("JARVIS_MQTT_PASSWORD_FILE"),
                mqtt_tls: files("JARVIS_MQTT_CA_FILE", "JARVIS_MQTT_CERT_FILE", "JARVIS_MQTT_KEY_FILE"),
                ..Self::default().settings
            },
        })
    }

    #[cfg(feature = "compat")]
    pub(crate) fn or_client_id(mut self, client_id: &str) -> Self {
        self.settings.client_id.get_or_insert_with(|| client_id.to_owned());
        self
    }

    /// `http://host:port`, `https://host:port` or `unix:///path`.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.settings.url = url.into();
        self
    }

    /// The client's name in the policy.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.settings.client_id = Some(client_id.into());
        self
    }

    /// Which of several processes that share the client's name it is; the same after a restart, as `web-1`.
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.settings.instance = Some(instance.into());
        self
    }

    /// Whether the daemon is told that a version is in use once all watches are done with it (docs/consumers.md): true.
    pub fn acknowledge(mut self, acknowledge: bool) -> Self {
        self.settings.acknowledge = acknowledge;
        self
    }

    /// A bearer token that proves the client.
    pub fn token(mut self, token: impl Into<SecretString>) -> Self {
        self.settings.token = Some(token.into());
        self
    }

    /// A file with the token; it is read again when it changes, and after a 401.
    pub fn token_file(mut self, path: impl AsRef<Path>) -> Self {
        self.settings.token_file = Some(path.as_ref().to_owned());
        self
    }

    /// With `https://`: a PEM of whom to trust, instead of the system's authorities.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.settings.tls.ca = Some(path.as_ref().to_owned());
        self
    }

    /// With `https://`: a certificate that proves the client, and its key, in PEM; read again when they change.
    pub fn certificate(mut self, cert_file: impl AsRef<Path>, key_file: impl AsRef<Path>) -> Self {
        self.settings.tls.cert = Some(cert_file.as_ref().to_owned());
        self.settings.tls.key = Some(key_file.as_ref().to_owned());
        self
    }

    /// A PEM of the daemon's event-signing key, instead of asking the daemon for it.
    pub fn pubkey(mut self, path: impl AsRef<Path>) -> Self {
        self.settings.pubkey = Some(path.as_ref().to_owned());
        self
    }

    /// The broker, `mqtt://host:port` or `mqtts://host:port`, instead of the one that the daemon names.
    pub fn mqtt_url(mut self, url: impl Into<String>) -> Self {
        self.settings.mqtt_url = Some(url.into());
        self
    }

    /// Whom to be for the broker, and a file with the password.
    pub fn mqtt_login(mut self, username: impl Into<String>, password_file: impl AsRef<Path>) -> Self {
        self.settings.mqtt_username = Some(username.into());
        self.settings.mqtt_password_file = Some(password_file.as_ref().to_owned());
        self
    }

    /// With `mqtts://`: a PEM of whom to trust.
    pub fn mqtt_ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.settings.mqtt_tls.ca = Some(path.as_ref().to_owned());
        self
    }

    /// With `mqtts://`: a certificate for the broker, and its key, in PEM.
    pub fn mqtt_certificate(mut self, cert_file: impl AsRef<Path>, key_file: impl AsRef<Path>) -> Self {
        self.settings.mqtt_tls.cert = Some(cert_file.as_ref().to_owned());
        self.settings.mqtt_tls.key = Some(key_file.as_ref().to_owned());
        self
    }

    /// How long one question to the daemon may take, and the broker's answer to a subscription: 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// A value's time to live while a configured bus doesn't vouch for it: 30 s.
    pub fn ttl_silent(mut self, ttl: Duration) -> Self {
        self.settings.times.ttl_silent = ttl;
        self
    }

    /// A value's time to live where the daemon uses no bus: 300 s.
    pub fn ttl_without_bus(mut self, ttl: Duration) -> Self {
        self.settings.times.ttl_without_bus = ttl;
        self
    }

    /// How long a value that was current is served while the daemon is away: an hour.
    pub fn max_stale(mut self, max_stale: Duration) -> Self {
        self.settings.times.max_stale = max_stale;
        self
    }

    /// Returns the client. It needs neither the daemon nor the broker yet, nor a thread.
    ///
    /// # Errors
    /// [`SecretsError::Settings`] for what makes no sense.
    pub fn build(self) -> Result<SecretsClient> {
        SecretsClient::with_settings(self.settings)
    }
}

/// Returns where the daemon is expected: at its packaged socket if that can be trusted, else on TCP.
fn default_url() -> String {
    usable_default().map_or_else(|| DEFAULT_URL.into(), |socket| format!("unix://{}", socket.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_the_same_as_for_the_python_client() {
        let built = Builder::from_variables(|name| {
            Some(if name.ends_with("ACKNOWLEDGE") {
                "Off".into()
            } else {
                format!("/{name}")
            })
        });
        let built = built.unwrap().settings;
        assert!(!built.acknowledge);
        assert_eq!(built.instance.as_deref(), Some("/JARVIS_CLIENT_INSTANCE"));
        let file = |name: &str| Some(PathBuf::from(format!("/{name}")));
        assert_eq!(built.url, "/JARVIS_SECRETS_URL");
        assert_eq!(built.client_id.as_deref(), Some("/JARVIS_CLIENT_ID"));
        assert_eq!(built.token_file, file("JARVIS_CLIENT_TOKEN_FILE"));
        assert_eq!(built.tls.ca, file("JARVIS_SECRETS_CA_FILE"));
        assert_eq!(built.tls.cert, file("JARVIS_CLIENT_CERT_FILE"));
        assert_eq!(built.tls.key, file("JARVIS_CLIENT_KEY_FILE"));
        assert_eq!(built.pubkey, file("JARVIS_SECRETS_PUBKEY"));
        assert_eq!(built.mqtt_url.as_deref(), Some("/JARVIS_MQTT_URL"));
        assert_eq!(built.mqtt_username.as_deref(), Some("/JARVIS_MQTT_USERNAME"));
        assert_eq!(built.mqtt_password_file, file("JARVIS_MQTT_PASSWORD_FILE"));
        assert_eq!(built.mqtt_tls.ca, file("JARVIS_MQTT_CA_FILE"));
        assert_eq!(built.mqtt_tls.cert, file("JARVIS_MQTT_CERT_FILE"));
        assert_eq!(built.mqtt_tls.key, file("JARVIS_MQTT_KEY_FILE"));
        let empty = Builder::from_variables(|_| Some(String::new())).unwrap().settings;
        assert!(empty.acknowledge);
        assert!(Builder::from_variables(|_| Some("perhaps".into())).is_err());
        assert_eq!(
            (empty.client_id, empty.mqtt_url, empty.url),
            (None, None, default_url())
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_where_the_client_is_made_and_no_token_is_shown() {
        let given = || Builder::default().url("http://127.0.0.1:1");
        let only = |set: &str| Builder::from_variables(|name| (name == set).then(|| "/p".into())).unwrap();
        for (builder, said) in [
            (given().url("nowhere"), "URL"),
            (given().client_id("é"), "name"),
            (given().instance("a/b"), "instance"),
            (given().token("a b"), "token"),
            (given().token("a").token_file("b"), "either"),
            (given().ca_file("/ca"), "https"),
            (given().pubkey("/nowhere.pem"), "/nowhere.pem"),
            (given().mqtt_url("mqtt://u:p@a"), "credentials"),
            (given().mqtt_url("mqtt://a").mqtt_ca_file("/ca"), "mqtts"),
            (only("JARVIS_MQTT_PASSWORD_FILE"), "username"),
            (only("JARVIS_MQTT_CERT_FILE"), "together"),
        ] {
            match builder.build() {
                Err(SecretsError::Settings(why)) => assert!(why.contains(said), "{why}"),
                other => panic!("{said}: {:?}", other.map(drop)),
            }
        }
        assert!(!format!("{:?}", given().token("hunter2")).contains("hunter2"));
    }
}
