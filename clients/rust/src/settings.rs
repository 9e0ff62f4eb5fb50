//! Where the daemon and the broker are, and who this client is.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::error::{Result, SecretsError};
use crate::http::Http;
use crate::model::BusInfo;
use crate::state::Times;
use crate::tls::TlsFiles;
use crate::trust::Trust;
use crate::verify::Topics;

const MQTT_FORM: &str = "write the broker's url as mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS";

/// Everything a client can be told. The token isn't shown by `Debug`.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) url: String,
    pub(crate) client_id: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) acknowledge: bool,
    pub(crate) token: Option<SecretString>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) tls: TlsFiles,
    pub(crate) pubkey: Option<PathBuf>,
    pub(crate) mqtt_url: Option<String>,
    pub(crate) mqtt_username: Option<String>,
    pub(crate) mqtt_password_file: Option<PathBuf>,
    pub(crate) mqtt_tls: TlsFiles,
    pub(crate) timeout: Duration,
    pub(crate) times: Times,
}

/// How to connect to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BusSettings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) tls: TlsFiles,
}

impl Settings {
    /// Fails now for what would fail later: the client is made where errors are looked at.
    pub(crate) fn check(&self) -> Result<()> {
        Http::new(self)?;
        Trust::from_pem_file(self.pubkey.as_deref())?;
        // Where the daemon will name the broker, the rest of its settings has to make sense all the same.
        let scheme = if self.mqtt_tls.is_empty() { "mqtt" } else { "mqtts" };
        self.bus(&BusInfo {
            url: format!("{scheme}://broker"),
            topic_prefix: "jarvis/secretsd".into(),
            node: "node".into(),
        })?;
        Ok(())
    }

    /// Returns how to connect to the broker that the settings name, or else the daemon.
    pub(crate) fn bus(&self, info: &BusInfo) -> Result<BusSettings> {
        self.bus_of(info)
            .map_err(|why| SecretsError::Settings(format!("the broker's settings make no sense: {why}")))
    }

    fn bus_of(&self, info: &BusInfo) -> std::result::Result<BusSettings, &'static str> {
        Topics::new(&info.topic_prefix)?;
        let (host, port, is_tls) = parse_mqtt_url(self.mqtt_url.as_ref().unwrap_or(&info.url))?;
        if self.mqtt_password_file.is_some() && self.mqtt_username.is_none() {
            return Err("a password file needs a username beside it");
        }
        if !self.mqtt_tls.is_paired() {
            return Err("certificate and key come together");
        }
        if !is_tls && !self.mqtt_tls.is_empty() {
            return Err("CA file, certificate and key are for TLS: write the url as mqtts://…");
        }
        Ok(BusSettings {
            host,
            port,
            is_tls,
            username: self.mqtt_username.clone(),
            password_file: self.mqtt_password_file.clone(),
            tls: self.mqtt_tls.clone(),
        })
    }
}

fn parse_mqtt_url(url: &str) -> std::result::Result<(String, u16, bool), &'static str> {
    let (is_tls, rest) = match (url.strip_prefix("mqtt://"), url.strip_prefix("mqtts://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(MQTT_FORM),
    };
    if rest.contains('@') {
        return Err("the broker's url holds no credentials: use username and password file");
    }
    let place = rest.strip_suffix('/').unwrap_or(rest);
    if place.contains(|character: char| "/?#".contains(character) || character.is_whitespace()) {
        return Err(MQTT_FORM);
    }
    // An IPv6 address stands in brackets, and has colons of its own.
    let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((host, rest)) => (host, rest),
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(MQTT_FORM)?,
        None if port.is_empty() => {
            if is_tls {
                8883
            } else {
                1883
            }
        }
        None => return Err(MQTT_FORM),
    };
    if host.is_empty() {
        return Err(MQTT_FORM);
    }
    Ok((host.to_owned(), port, is_tls))
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("url", &self.url)
            .field("client_id", &self.client_id)
            .field("mqtt_url", &self.mqtt_url)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brokers_url_is_host_and_port() {
        let parsed = |url| {
            parse_mqtt_url(url)
                .map(|(host, port, is_tls)| format!("{host} {port} {is_tls}"))
                .ok()
        };
        assert_eq!(parsed("mqtt://broker").as_deref(), Some("broker 1883 false"));
        assert_eq!(parsed("mqtts://broker/").as_deref(), Some("broker 8883 true"));
        assert_eq!(parsed("mqtt://[::1]:99").as_deref(), Some("::1 99 false"));
        assert_eq!(parsed("mqtt://[::1]").as_deref(), Some("::1 1883 false"));
        for url in [
            "",
            "broker",
            "http://broker",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://a:0",
            "mqtt://a:b",
            "mqtt://a:70000",
            "mqtt://u:p@a",
            "mqtt://a/b",
            "mqtt://a?b",
            "mqtt://a#b",
            "mqtt://[::1",
            "mqtt://[::1]x",
            "mqtt://::1",
        ] {
            assert_eq!(parsed(url), None, "{url}");
        }
    }
}
