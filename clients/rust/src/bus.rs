//! Listening to the daemon on the bus: connect, subscribe, verify, hand on; and begin again when it breaks.
//!
//! Nothing here decides what a message means: verified ones go to the state. Nothing here is needed to serve a secret:
//! without the bus values only live shorter.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::counts::Superseding;
use crate::engine::Engine;
use crate::error::{Result, SecretsError};
use crate::model::{self, BusInfo};
use crate::mqtt::{BusError, Link};
use crate::settings::Settings;
use crate::trust::{Step, Trust};
use crate::verify::{verify, Event, Refused, Topics};

/// After so long with nothing that vouches, a connection is given up and `GET /bus` asked again.
const SILENCE_SECS: f64 = 60.0;
const FILTERS_AT_ONCE: usize = 100;
const RECONNECT_FIRST: f64 = 0.5;
const RECONNECT_MOST: f64 = 30.0;
const WARN_EVERY_SECS: f64 = 60.0;
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// One client's ear on the bus.
pub(crate) struct Listener {
    settings: Settings,
    engine: Rc<Engine>,
    trust: RefCell<Trust>,
    keys_doubted: Cell<bool>,
    keys_asked_at: Cell<f64>,
    heard: Cell<bool>,
    refused_since_warning: Cell<u64>,
    told: RefCell<String>,
    warned_at: Cell<f64>,
}

impl Listener {
    pub(crate) fn new(settings: Settings, trust: Trust, engine: Rc<Engine>) -> Self {
        Self {
            settings,
            engine,
            trust: RefCell::new(trust),
            keys_doubted: Cell::new(false),
            keys_asked_at: Cell::new(f64::NEG_INFINITY),
            heard: Cell::new(false),
            refused_since_warning: Cell::new(0),
            told: RefCell::default(),
            warned_at: Cell::new(f64::NEG_INFINITY),
        }
    }

    /// Listens for ever.
    pub(crate) async fn run(self: Rc<Self>) {
        let mut failures = 0;
        loop {
            let reason = match self.listen_once().await {
                Ok(None) => continue,
                Ok(Some(reason)) => reason,
                Err(error) => error,
            };
            failures = if self.engine.is_ready() {
                0
            } else {
                (failures + 1).min(16)
            };
            self.engine.set_ready(false);
            let pause = RECONNECT_MOST.min(RECONNECT_FIRST * 2f64.powi(failures)) * (0.5 + fastrand::f64() / 2.0);
            // Once an outage: what is tried for ever is told once at the level that people see.
            if *self.told.borrow() == reason {
                tracing::info!(%reason, pause_secs = pause, "the bus is away: changes are noticed later; trying again");
            } else {
                tracing::warn!(%reason, pause_secs = pause, "the bus is away: changes are noticed later; trying again");
            }
            self.told.replace(reason);
            sleep(Duration::from_secs_f64(pause)).await;
        }
    }

    /// Listens until the connection ends, and returns why; None where the daemon uses no bus and it is time to ask again.
    async fn listen_once(self: &Rc<Self>) -> std::result::Result<Option<String>, String> {
        let engine = &self.engine;
        let info = engine.daemon.bus().await.map_err(|error| error.to_string())?;
        engine
            .state
            .borrow_mut()
            .bus_configured(info.is_some(), engine.clock.now());
        engine.poke();
        let Some(info) = info else {
            engine.set_ready(true); // there is nothing to wait for
            sleep(self.settings.times.ttl_without_bus).await;
            return Ok(None);
        };
        self.listen(&info).await.map(Some)
    }

    /// Connects, subscribes, synchronises and stays; returns why it ended.
    async fn listen(self: &Rc<Self>, info: &BusInfo) -> std::result::Result<String, String> {
        let settings = self.settings.bus(info).map_err(|error| error.to_string())?;
        let topics = Topics::new(&info.topic_prefix)?;
        self.ask_keys(true).await.map_err(|error| error.to_string())?;
        self.heard.set(false);
        let client_id = format!(
            "secretsd-client-{}-{:012x}",
            self.settings.client_id.as_deref().unwrap_or("unnamed"),
            fastrand::u64(..1 << 48)
        );
        let (listener, admitted) = (Rc::clone(self), topics.clone());
        let on_message = move |topic: &str, payload: &[u8]| listener.received(&admitted, topic, payload);
        let link = Link::connect(&settings, &client_id, Rc::new(on_message))
            .await
            .map_err(|error| error.to_string())?;
        self.told.take();
        self.engine.state.borrow().counts.add("bus_connects");
        let ended = self.attend(&link, &topics, &info.node).await;
        link.disconnect().await;
        ended.map_err(|error| error.to_string())
    }

    async fn attend(&self, link: &Link, topics: &Topics, node: &str) -> std::result::Result<String, BusError> {
        // The checkpoint first: a broker's queue may overflow with states, and this one heals the rest.
        self.subscribe(
            link,
            &[topics.checkpoint(node), topics.status(node), topics.key_rotated()],
        )
        .await?;
        let mut subscribed = HashSet::new();
        self.subscribe_names(link, topics, &mut subscribed).await?;
        // Ready when /changes has answered what was asked after the subscriptions, if the link lasts (rule 1).
        tokio::select! {
            () = self.engine.synchronise() => self.engine.set_ready(true),
            reason = link.wait_closed() => return Ok(reason),
        }
        self.stay(link, topics, &mut subscribed).await
    }

    async fn subscribe_names(
        &self,
        link: &Link,
        topics: &Topics,
        subscribed: &mut HashSet<String>,
    ) -> std::result::Result<(), BusError> {
        let mut new: Vec<String> = self
            .engine
            .state
            .borrow()
            .names()
            .into_iter()
            .filter(|name| !subscribed.contains(name))
            .collect();
        new.sort_unstable();
        for names in new.chunks(FILTERS_AT_ONCE) {
            let filters: Vec<String> = names.iter().map(|name| topics.of_secret(name)).collect();
            self.subscribe(link, &filters).await?;
            subscribed.extend(names.iter().cloned());
        }
        Ok(())
    }

    /// Subscribes; a refusal is counted, for it costs hints only. Fails when no answer comes.
    async fn subscribe(&self, link: &Link, filters: &[String]) -> std::result::Result<(), BusError> {
        match timeout(self.settings.timeout, link.subscribe(filters)).await {
            Err(_) => Err(BusError::Lost("the broker answers no subscription".into())),
            Ok(Err(BusError::Denied(refusal))) => {
                let state = self.engine.state.borrow();
                state.counts.add("subscriptions_refused");
                if state.counts.get("subscriptions_refused") == 1 {
                    tracing::warn!(%refusal, "changes are noticed later than they could be: look at the broker's ACL");
                }
                Ok(())
            }
            Ok(answer) => answer,
        }
    }

    async fn stay(
        &self,
        link: &Link,
        topics: &Topics,
        subscribed: &mut HashSet<String>,
    ) -> std::result::Result<String, BusError> {
        let connected_at = self.engine.clock.now();
        let mut warned = false;
        loop {
            // The end of the link, a name or a key to see to, or a while.
            tokio::select! {
                reason = link.wait_closed() => return Ok(reason),
                () = self.engine.names_changed.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
            if self.keys_doubted.get() {
                let _asked_again_later = self.ask_keys(false).await;
            }
            self.subscribe_names(link, topics, subscribed).await?;
            if let Some(reason) = link.ended() {
                return Ok(reason);
            }
            let now = self.engine.clock.now();
            let (interval, vouched_until) = {
                let state = self.engine.state.borrow();
                (state.history.interval, state.history.vouched.until())
            };
            if !self.heard.get() && !warned && now - connected_at > interval {
                warned = true;
                tracing::warn!(
                    prefix = topics.prefix(),
                    "the broker took our subscriptions and no valid checkpoint comes: look at its ACL for this client, \
                     and at JARVIS_SECRETS_PUBKEY"
                );
            }
            if now - connected_at.max(vouched_until) > SILENCE_SECS {
                return Ok("nothing vouches for what we have".into());
            }
        }
    }

    /// Asks HTTP for the signing keys: on connecting where none is pinned, and when one is unknown.
    async fn ask_keys(&self, required: bool) -> Result<()> {
        let now = self.engine.clock.now();
        let interval = self.engine.state.borrow().history.interval;
        let pinned = self.trust.borrow().pinned;
        if (required && pinned) || (!required && now < self.keys_asked_at.get() + interval) {
            return Ok(());
        }
        self.keys_asked_at.set(now);
        self.keys_doubted.set(false);
        let keys = match self.engine.daemon.keys().await {
            Ok(keys) => keys,
            Err(error) if required && !self.trust.borrow().known() => return Err(error),
            Err(_) => return Ok(()),
        };
        if !self.trust.borrow_mut().learn(&keys.keys, now) && required {
            return Err(SecretsError::SecretsUnavailable(
                "the daemon gave no signing key that this client can use".into(),
            ));
        }
        Ok(())
    }

    fn received(&self, topics: &Topics, topic: &str, payload: &[u8]) {
        let now = self.engine.clock.now();
        let verified = verify(topics, self.trust.borrow_mut().ring(now), topic, payload);
        match verified {
            Ok(event) => {
                self.hand_on(&event, now);
                self.engine.poke();
            }
            Err(refused) => self.refused(refused, now),
        }
    }

    fn hand_on(&self, event: &Event, now: f64) {
        let mut state = self.engine.state.borrow_mut();
        let _noting = Superseding::of(&state.counts);
        state.counts.add("verified");
        let understood = match event.kind.as_str() {
            "audit.checkpoint" => model::checkpoint(event).map(|seen| {
                self.heard.set(true);
                state.checkpoint(seen, now);
            }),
            "daemon.status" => model::session_of(event).map(|session| state.history.session(session, now)),
            "audit.key_rotated" => {
                let counted = match self.trust.borrow_mut().follow(event, now) {
                    Step::Followed => "keys_followed",
                    Step::Repeated => "repeated",
                    Step::NotFollowed => {
                        tracing::warn!(
                            "a new signing key was announced without its own proof, or by a key of the past"
                        );
                        "keys_not_followed"
                    }
                };
                state.counts.add(counted);
                Some(())
            }
            kind if kind.starts_with("secret.") => model::announcement(event).map(|news| state.announced(&news, now)),
            _ => None,
        };
        if understood.is_none() {
            state.counts.add("not_understood");
        }
    }

    /// Counts a message that doesn't verify; says so once in a while; an unknown key may be a new one.
    fn refused(&self, refused: Refused, now: f64) {
        let state = self.engine.state.borrow();
        state.counts.add("refused");
        state.counts.add(match refused {
            Refused::NotJson => "refused_not_json",
            Refused::NotCanonical => "refused_not_canonical",
            Refused::UnknownKey => "refused_unknown_key",
            Refused::BadSignature => "refused_bad_signature",
            Refused::WrongTopic => "refused_wrong_topic",
        });
        self.refused_since_warning.set(self.refused_since_warning.get() + 1);
        if refused == Refused::UnknownKey && !self.keys_doubted.get() {
            self.keys_doubted.set(true);
            self.engine.names_changed.notify_one();
        }
        if now >= self.warned_at.get() + WARN_EVERY_SECS {
            tracing::warn!(
                messages = self.refused_since_warning.get(),
                last = refused.slug(),
                "messages on the bus refused: somebody else writes to our topics?"
            );
            self.warned_at.set(now);
            self.refused_since_warning.set(0);
        }
    }
}
