//! One connection to the broker: MQTT 5, or 3.1.1 where the broker doesn't speak 5. The only module that knows rumqttc.
//!
//! rumqttc is made one connection long: its reconnecting is not used, and nothing is kept from one to the next.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{spawn_local, AbortHandle};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::settings::BusSettings;
use crate::tls::Unfit;

const KEEP_ALIVE_SECS: u16 = 20;
const CONNECT: Duration = Duration::from_secs(10);
/// How long a broker may think about a CONNECT of version 5: an old one may wait for more on seeing it.
const VERSION_5: Duration = Duration::from_secs(3);
const FAREWELL: Duration = Duration::from_secs(1);
/// An event has some 1,000 bytes; a daemon's key set, the longest of what is sent, a few thousand.
const PACKET_MOST: u32 = 256 * 1024;

/// Why there is no connection, or none any more.
#[derive(Debug)]
pub(crate) enum BusError {
    /// No broker answers, it refuses us, or a file can't be used.
    NotConnected(String),
    /// The broker refuses a subscription.
    Denied(String),
    /// The connection went before the broker answered.
    Lost(String),
}

impl std::fmt::Display for BusError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotConnected(why) | Self::Denied(why) | Self::Lost(why) => formatter.write_str(why),
        }
    }
}

/// What is done with a message: topic and payload.
pub(crate) type OnMessage = Rc<dyn Fn(&str, &[u8])>;

/// Why one attempt at one version came to nothing.
enum Failure {
    /// Another version wouldn't fare better.
    Final(String),
    /// No answer that can be read, or one that says so: the broker may not speak this version.
    OldBroker(String),
}

enum Client {
    Five(rumqttc_v5::AsyncClient),
    Three(rumqttc_v4::AsyncClient),
}

/// A connection: gone when `closed` has a reason.
pub(crate) struct Link {
    client: Client,
    closed: watch::Receiver<Option<String>>,
    pump: AbortHandle,
}

impl Link {
    /// Connects with a clean start. Called on a `LocalSet`; so is `on_message`.
    pub(crate) async fn connect(
        settings: &BusSettings,
        client_id: &str,
        on_message: OnMessage,
    ) -> Result<Self, BusError> {
        let place = format!("{}:{}", settings.host, settings.port);
        let setup = Setup::read(settings, client_id).map_err(BusError::NotConnected)?;
        let attempts = async {
            match timeout(VERSION_5, five::connect(&setup, Rc::clone(&on_message))).await {
                Ok(Err(Failure::OldBroker(_))) | Err(_) => three::connect(&setup, on_message).await,
                Ok(outcome) => outcome,
            }
        };
        match timeout(CONNECT, attempts).await {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(Failure::Final(why) | Failure::OldBroker(why))) => {
                Err(BusError::NotConnected(format!("no connection to {place}: {why}")))
            }
            Err(_) => Err(BusError::NotConnected(format!("no MQTT broker answered at {place}"))),
        }
    }

    /// Subscribes at QoS 1 and waits for the broker's answer. Mosquitto grants what its ACL denies and then stays
    /// silent: an answer proves no right.
    pub(crate) async fn subscribe(&self, filters: &[String]) -> Result<(), BusError> {
        let mut closed = self.closed.clone();
        let answer = async {
            match &self.client {
                Client::Five(client) => five::subscribe(client, filters).await,
                Client::Three(client) => three::subscribe(client, filters).await,
            }
        };
        tokio::select! {
            answer = answer => answer,
            why = reason(&mut closed) => Err(BusError::Lost(why)),
        }
    }

    /// Returns the reason why the connection ended, if it has.
    pub(crate) fn ended(&self) -> Option<String> {
        self.closed.borrow().clone()
    }

    /// Waits for the connection's end.
    pub(crate) async fn wait_closed(&self) -> String {
        reason(&mut self.closed.clone()).await
    }

    /// Says goodbye, so that the broker doesn't wonder, and waits a moment for it.
    pub(crate) async fn disconnect(self) {
        let said = match &self.client {
            Client::Five(client) => client.try_disconnect_now().is_ok(),
            Client::Three(client) => client.try_disconnect_now().is_ok(),
        };
        if said {
            let _ended_in_time = timeout(FAREWELL, self.wait_closed()).await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

async fn reason(closed: &mut watch::Receiver<Option<String>>) -> String {
    match closed.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => "the connection was dropped".into(),
    }
}

/// What both versions are told.
struct Setup<'a> {
    settings: &'a BusSettings,
    client_id: &'a str,
    password: Option<Zeroizing<Vec<u8>>>,
    tls: Option<std::sync::Arc<rustls::ClientConfig>>,
}

impl<'a> Setup<'a> {
    /// Reads password and certificates. Blocks, for as long as reading small files takes.
    fn read(settings: &'a BusSettings, client_id: &'a str) -> Result<Self, String> {
        let tls = match settings.is_tls {
            true => Some(
                settings
                    .tls
                    .load()
                    .map_err(|(Unfit::Unreadable(why) | Unfit::Wrong(why))| why)?,
            ),
            false => None,
        };
        let password = match &settings.password_file {
            Some(path) => {
                let mut read = Zeroizing::new(
                    std::fs::read(path)
                        .map_err(|error| format!("can't read the password in {}: {}", path.display(), error.kind()))?,
                );
                for end in [b'\n', b'\r'] {
                    if read.last() == Some(&end) {
                        read.pop();
                    }
                }
                Some(read)
            }
            None => None,
        };
        let tls = tls.map(std::sync::Arc::new);
        Ok(Self {
            settings,
            client_id,
            password,
            tls,
        })
    }
}

fn why_no_io(kind: ErrorKind, is_tls: bool) -> Failure {
    match kind {
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => {
            let wants = if is_tls { "a client certificate" } else { "TLS" };
            Failure::OldBroker(format!(
                "it closed the connection without an answer: does it want {wants}?"
            ))
        }
        kind => Failure::Final(kind.to_string()),
    }
}

/// Both versions have the same interface in two crates: what follows is written once for both.
macro_rules! version {
    ($module:ident, $crate_:ident, $client:ident, $limits:expr, $made:expr, old: $old:pat, goodbye: $goodbye:pat) => {
        mod $module {
            use $crate_::{
                AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions,
                Outgoing, Packet, QoS, SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
            };

            use super::*;

            fn options(setup: &Setup<'_>) -> MqttOptions {
                let broker = (setup.settings.host.as_str(), setup.settings.port);
                let mut options = MqttOptions::new(setup.client_id, broker);
                options.set_keep_alive(KEEP_ALIVE_SECS);
                let limits: fn(&mut MqttOptions) = $limits;
                limits(&mut options);
                if let Some(tls) = &setup.tls {
                    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
                }
                if let Some(username) = &setup.settings.username {
                    match &setup.password {
                        Some(password) => options.set_credentials(username.clone(), password.to_vec()),
                        None => options.set_username(username.clone()),
                    };
                }
                options
            }

            fn network() -> NetworkOptions {
                let mut network = NetworkOptions::new();
                // Off by default: an acknowledgement that Nagle's algorithm holds back for the broker's delayed ACK
                // makes the broker hold back the next message in turn, 40 ms at a time.
                network.set_tcp_nodelay(true);
                network
            }

            pub(super) async fn connect(setup: &Setup<'_>, on_message: OnMessage) -> Result<Link, Failure> {
                let made: fn(MqttOptions, NetworkOptions) -> (AsyncClient, EventLoop) = $made;
                let (client, mut events) = made(options(setup), network());
                loop {
                    match events.poll().await {
                        Ok(Event::Incoming(Packet::ConnAck(_))) => break,
                        Ok(_) => {}
                        Err(ConnectionError::ConnectionRefused(code @ $old)) => {
                            return Err(Failure::OldBroker(format!(
                                "the broker refuses the connection: {code:?}"
                            )));
                        }
                        Err(ConnectionError::ConnectionRefused(code)) => {
                            return Err(Failure::Final(format!(
                                "the broker refuses the connection: {code:?}"
                            )));
                        }
                        Err(ConnectionError::Io(error)) => return Err(why_no_io(error.kind(), setup.tls.is_some())),
                        Err(ConnectionError::Tls(error)) => return Err(Failure::Final(format!("TLS: {error}"))),
                        Err(error) => return Err(Failure::OldBroker(error.to_string())),
                    }
                }
                let (ended, closed) = watch::channel(None);
                let pump = spawn_local(async move {
                    let why = pump(&mut events, &on_message).await;
                    ended.send_replace(Some(why));
                });
                Ok(Link {
                    client: Client::$client(client),
                    closed,
                    pump: pump.abort_handle(),
                })
            }

            /// Hands messages on until the connection ends; returns why.
            async fn pump(events: &mut EventLoop, on_message: &OnMessage) -> String {
                loop {
                    match events.poll().await {
                        Ok(Event::Incoming(Packet::Publish(message))) => {
                            // A topic that isn't UTF-8 is nobody's.
                            if let Ok(topic) = std::str::from_utf8(&message.topic) {
                                on_message(topic, &message.payload);
                            }
                        }
                        Ok(Event::Incoming($goodbye)) => return "the broker closed the connection".into(),
                        Ok(Event::Outgoing(Outgoing::Disconnect)) => return "closed".into(),
                        Ok(_) => {}
                        Err(error) => return error.to_string(),
                    }
                }
            }

            pub(super) async fn subscribe(client: &AsyncClient, filters: &[String]) -> Result<(), BusError> {
                let filters = filters
                    .iter()
                    .map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
                let asked = client.try_subscribe_many_tracked(filters);
                let notice = asked.map_err(|error| BusError::Lost(error.to_string()))?;
                let answer = notice
                    .wait_async()
                    .await
                    .map_err(|error| BusError::Lost(error.to_string()))?;
                match answer
                    .return_codes
                    .iter()
                    .find(|code| !matches!(code, SubscribeReasonCode::Success(_)))
                {
                    Some(code) => Err(BusError::Denied(format!(
                        "the broker refuses a subscription: {code:?}"
                    ))),
                    None => Ok(()),
                }
            }
        }
    };
}

version!(
    five,
    rumqttc_v5,
    Five,
    |options| {
        options.set_clean_start(true).set_max_packet_size(Some(PACKET_MOST));
    },
    |mut options, network| {
        options.set_network_options(network);
        AsyncClient::builder(options).unbounded().build()
    },
    old: ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion,
    goodbye: Packet::Disconnect(_)
);
version!(
    three,
    rumqttc_v4,
    Three,
    |options| {
        options.set_clean_session(true).set_max_packet_size(PACKET_MOST as usize, PACKET_MOST as usize);
    },
    |options, network| {
        let (client, mut events) = AsyncClient::builder(options).unbounded().build();
        events.set_network_options(network);
        (client, events)
    },
    old: ConnectReturnCode::RefusedProtocolVersion,
    goodbye: Packet::Disconnect
);
