//! The background: one thread that asks the daemon, listens to the bus and feeds the state, which decides.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, Notify, Semaphore};
use tokio::task::{spawn_local, JoinSet, LocalSet};
use tokio::time::{sleep, sleep_until, timeout};

use crate::acknowledge::Acknowledgements;
use crate::bus::Listener;
use crate::counts::Superseding;
use crate::daemon::{Daemon, History, Read};
use crate::error::{Result, SecretsError};
use crate::http::Http;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::state::State;
use crate::time::Clock;
use crate::trust::Trust;
use crate::watch::Watchers;

const BACKGROUND_FETCHES: usize = 8;
/// How long a read that has a stale value waits for a daemon that failed before: it may hang.
const PATIENCE: Duration = Duration::from_millis(250);
const ASK_AGAIN_FIRST: Duration = Duration::from_millis(20);
const ASK_AGAIN_MOST: Duration = Duration::from_millis(500);

type Reply = oneshot::Sender<Result<Secret>>;

/// What the client's callers want.
#[derive(Debug)]
pub(crate) enum Command {
    Get {
        name: String,
        reply: Reply,
    },
    Watch {
        name: String,
        number: u64,
        told: UnboundedSender<Secret>,
        settled: oneshot::Sender<()>,
    },
    Unwatch {
        name: String,
        number: u64,
    },
    /// A watch is done with a version; `dropped`: it was dropped amid it.
    Done {
        name: String,
        kid: String,
        dropped: bool,
    },
    Acknowledge {
        name: String,
        kid: String,
    },
    Clear {
        done: oneshot::Sender<()>,
    },
    WaitReady {
        timeout: Duration,
        reply: oneshot::Sender<bool>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// Starts the thread; it ends with `Close`, or when nobody holds the sender any more.
pub(crate) fn start(settings: Settings, state: State, clock: Clock) -> Result<UnboundedSender<Command>> {
    let unable = |error: std::io::Error| SecretsError::SecretsUnavailable(format!("no thread: {}", error.kind()));
    let http = Http::new(&settings)?;
    let trust = Trust::from_pem_file(settings.pubkey.as_deref())?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(unable)?;
    let (commands, received) = unbounded_channel();
    std::thread::Builder::new()
        .name("secretsd-client".into())
        .spawn(move || {
            let engine = Engine::new(http, state, clock, &settings);
            let listener = Rc::new(Listener::new(settings, trust, Rc::clone(&engine)));
            let local = LocalSet::new();
            let closing = local.block_on(&runtime, engine.serve(received, listener));
            // Only when no task runs any more, and no connection is open, is the client closed.
            drop(local);
            drop(runtime);
            if let Some(done) = closing {
                let _not_waited_for = done.send(());
            }
        })
        .map_err(unable)?;
    Ok(commands)
}

/// What the tasks of one client share. On one thread: nothing is borrowed across an await.
pub(crate) struct Engine {
    pub(crate) daemon: Daemon,
    pub(crate) state: RefCell<State>,
    pub(crate) clock: Clock,
    timeout: Duration,
    watchers: RefCell<Watchers>,
    acknowledgements: Acknowledgements,
    fetches: RefCell<HashMap<String, Vec<Reply>>>,
    room: Semaphore,
    wake: Notify,
    answered: Notify,
    /// Somebody began to care about a name: the listener looks whether it is subscribed to.
    pub(crate) names_changed: Notify,
    ready: Cell<bool>,
    ready_changed: Notify,
}

impl Engine {
    fn new(http: Http, state: State, clock: Clock, settings: &Settings) -> Rc<Self> {
        Rc::new(Self {
            daemon: Daemon::new(http),
            state: RefCell::new(state),
            clock,
            timeout: settings.timeout,
            watchers: RefCell::default(),
            acknowledgements: Acknowledgements::new(settings.acknowledge),
            fetches: RefCell::default(),
            room: Semaphore::new(BACKGROUND_FETCHES),
            wake: Notify::new(),
            answered: Notify::new(),
            names_changed: Notify::new(),
            ready: Cell::new(false),
            ready_changed: Notify::new(),
        })
    }

    /// Does what is asked for until the end; returns whom to tell of it.
    async fn serve(
        self: &Rc<Self>,
        mut commands: UnboundedReceiver<Command>,
        listener: Rc<Listener>,
    ) -> Option<oneshot::Sender<()>> {
        let mut background = JoinSet::new();
        background.spawn_local(async move { listener.run().await });
        background.spawn_local(Rc::clone(self).maintain());
        let engine = Rc::clone(self);
        background.spawn_local(async move {
            let counts = engine.state.borrow().counts.clone();
            engine.acknowledgements.run(&engine.daemon, &counts).await;
        });
        while let Some(command) = commands.recv().await {
            match command {
                Command::Get { name, reply } => self.get(name, reply),
                Command::Watch {
                    name,
                    number,
                    told,
                    settled,
                } => self.watch(name, number, told, settled),
                Command::Unwatch { name, number } => {
                    if self.watchers.borrow_mut().remove(&name, number) {
                        self.state.borrow_mut().watched.remove(&name);
                    }
                }
                Command::Done { name, kid, dropped } => self.acknowledgements.ran(&name, &kid, dropped),
                Command::Acknowledge { name, kid } => self.acknowledgements.in_use(&name, &kid),
                Command::Clear { done } => {
                    self.state.borrow_mut().forget_values();
                    let _not_waited_for = done.send(());
                }
                Command::WaitReady { timeout: within, reply } => {
                    let engine = Rc::clone(self);
                    spawn_local(async move {
                        let is_ready = timeout(within, engine.wait_ready()).await.is_ok();
                        let _not_waited_for = reply.send(is_ready);
                    });
                }
                Command::Close { done } => return Some(done),
            }
        }
        None
    }

    pub(crate) fn poke(&self) {
        self.wake.notify_one();
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.get()
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.set(ready);
        self.ready_changed.notify_waiters();
    }

    async fn wait_ready(&self) {
        while !self.ready.get() {
            self.ready_changed.notified().await;
        }
    }

    // Reading

    fn get(self: &Rc<Self>, name: String, reply: Reply) {
        let now = self.clock.now();
        let served = {
            let state = self.state.borrow();
            let stale = || state.backing_off(now).then(|| state.stale(&name, now)).flatten();
            match state.lookup(&name, now) {
                Some(secret) => Some(secret),
                None => stale().inspect(|_| state.counts.add("served_stale")),
            }
        };
        if let Some(secret) = served {
            let _not_waited_for = reply.send(Ok(secret.give()));
            return;
        }
        let fetch = self.fetch(name.clone());
        let engine = Rc::clone(self);
        spawn_local(async move {
            let outcome = match engine.unless_it_hangs(&name, fetch).await {
                Err(SecretsError::SecretsUnavailable(why)) => {
                    let state = engine.state.borrow();
                    match state.stale(&name, engine.clock.now()) {
                        Some(secret) => {
                            state.counts.add("served_stale");
                            Ok(secret)
                        }
                        None => Err(SecretsError::SecretsUnavailable(why)),
                    }
                }
                outcome => outcome,
            };
            let _not_waited_for = reply.send(outcome.map(Secret::give));
        });
    }

    /// Waits for the fetch, but only a moment where the daemon failed before and a stale value can be served.
    async fn unless_it_hangs(&self, name: &str, fetch: impl Future<Output = Result<Secret>>) -> Result<Secret> {
        let may_hang = || {
            let state = self.state.borrow();
            state.is_failing() && state.stale(name, self.clock.now()).is_some()
        };
        let mut fetch = pin!(fetch);
        if may_hang() {
            if let Ok(outcome) = timeout(PATIENCE, &mut fetch).await {
                return outcome;
            }
            self.state.borrow_mut().unreachable(self.clock.now());
            if may_hang() {
                return Err(SecretsError::SecretsUnavailable(format!(
                    "reading {name}: the daemon, which failed before, doesn't answer"
                )));
            }
        }
        fetch.await
    }

    fn watch(self: &Rc<Self>, name: String, number: u64, told: UnboundedSender<Secret>, settled: oneshot::Sender<()>) {
        let now = self.clock.now();
        let present = self.state.borrow().lookup(&name, now);
        self.watchers.borrow_mut().add(&name, number, told);
        if let Some(secret) = &present {
            self.tell_watchers(secret);
        }
        self.state.borrow_mut().watch(&name, now);
        self.poke();
        if present.is_some() {
            self.names_changed.notify_one();
            let _not_waited_for = settled.send(());
            return;
        }
        let fetch = self.fetch(name);
        let engine = Rc::clone(self);
        spawn_local(async move {
            // Whatever came of it: the version is known, or can't be now.
            let _outcome = fetch.await;
            engine.names_changed.notify_one();
            let _not_waited_for = settled.send(());
        });
    }

    /// Waits for the one fetch of this name that is under way; begins it if there is none.
    fn fetch(self: &Rc<Self>, name: String) -> impl Future<Output = Result<Secret>> {
        let (reply, answer) = oneshot::channel();
        let is_first = {
            let mut fetches = self.fetches.borrow_mut();
            let waiting = fetches.entry(name.clone()).or_default();
            waiting.push(reply);
            waiting.len() == 1
        };
        if is_first {
            let engine = Rc::clone(self);
            spawn_local(async move {
                let outcome = engine.fetch_current(&name).await;
                for reply in engine.fetches.borrow_mut().remove(&name).unwrap_or_default() {
                    let _not_waited_for = reply.send(outcome.clone());
                }
            });
        }
        async move { answer.await.unwrap_or(Err(SecretsError::Closed)) }
    }

    /// Asks until the answer is as new as what was announced; a change during the question asks again.
    async fn fetch_current(&self, name: &str) -> Result<Secret> {
        let give_up_at = self.clock.now() + self.timeout.as_secs_f64();
        let mut pause = ASK_AGAIN_FIRST;
        let secret = loop {
            if let Some(secret) = self.fetch_once(name).await? {
                break secret;
            }
            if self.clock.now() >= give_up_at {
                return Err(SecretsError::SecretsUnavailable(format!(
                    "{name} has changed, and the daemon doesn't give the new value yet"
                )));
            }
            sleep(pause).await;
            pause = (pause * 2).min(ASK_AGAIN_MOST);
        };
        self.tell_watchers(&secret);
        self.names_changed.notify_one();
        Ok(secret)
    }

    /// Tells whom it concerns that this version is the current one.
    fn tell_watchers(&self, secret: &Secret) {
        let acknowledgements = &self.acknowledgements;
        let told = self.watchers.borrow_mut().stored(
            secret,
            |watches| acknowledgements.began(secret.name(), secret.kid(), watches),
            || acknowledgements.begins_with(secret.name(), secret.kid()),
        );
        self.state.borrow().counts.add_many("callbacks", told);
    }

    async fn fetch_once(&self, name: &str) -> Result<Option<Secret>> {
        let (order, sent_at) = (self.state.borrow().order(name), self.clock.now());
        self.state.borrow().counts.add("fetches");
        let outcome = self.daemon.secret(name, &order).await;
        let now = self.clock.now();
        let mut state = self.state.borrow_mut();
        match outcome {
            Ok(Read::Fetched(answer)) => {
                self.note_date(&mut state, sent_at);
                if answer.secret.is_none() {
                    state.counts.add("not_modified");
                }
                Ok(state.fetched(name, answer, sent_at, now))
            }
            Ok(Read::Behind) => Ok(None),
            Ok(Read::Missing(at)) => match state.missing(name, &at, sent_at, now) {
                true => {
                    self.watchers.borrow_mut().absent(name);
                    Err(SecretsError::SecretNotFound(format!("there is no secret {name}")))
                }
                false => Ok(None),
            },
            Err(error) => {
                match &error {
                    SecretsError::AccessDenied(_) => state.denied(name),
                    SecretsError::AuthenticationFailed(_) => {
                        state.rejected(Some(name), now);
                        self.poke();
                    }
                    SecretsError::SecretsUnavailable(_) => state.unreachable(now),
                    _ => {}
                }
                Err(error)
            }
        }
    }

    fn note_date(&self, state: &mut State, sent_at: f64) {
        if let Some(date_ms) = self.daemon.date_ms() {
            state.daemon_time(date_ms, sent_at);
        }
    }

    // The background

    /// Does what the state says is due, when it is due.
    async fn maintain(self: Rc<Self>) {
        loop {
            let due = self.state.borrow_mut().due(self.clock.now());
            if due.changes {
                spawn_local(Rc::clone(&self).ask_changes());
            }
            for name in due.fetch {
                spawn_local(Rc::clone(&self).refetch(name));
            }
            match due.wake_at {
                Some(at) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = sleep_until(self.clock.instant(at).into()) => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    async fn refetch(self: Rc<Self>, name: String) {
        let Ok(_room) = self.room.acquire().await else {
            return;
        };
        if self.state.borrow().lookup(&name, self.clock.now()).is_some() {
            return; // a reader was faster
        }
        // Of other failures the state has drawn its conclusions; a reader will be told.
        if let Err(SecretsError::SecretsUnavailable(_)) = self.fetch(name.clone()).await {
            self.state.borrow_mut().retry(&name, self.clock.now());
            self.poke();
        }
    }

    async fn ask_changes(self: Rc<Self>) {
        let (since, sent_at) = (self.state.borrow().history.since(), self.clock.now());
        self.state.borrow().counts.add("changes_asked");
        let outcome = self.daemon.changes(since.as_deref()).await;
        let now = self.clock.now();
        {
            let mut state = self.state.borrow_mut();
            let _noting = Superseding::of(&state.counts);
            match outcome {
                Ok(History::Changes(answer)) => {
                    self.note_date(&mut state, sent_at);
                    state.changes_answered(&answer, since.is_none(), sent_at, now);
                }
                Ok(History::Gone) => state.history_gone(now),
                Err(SecretsError::AuthenticationFailed(_)) => state.changes_refused(now),
                Err(_) => state.changes_failed(now),
            }
        }
        self.poke();
        self.answered.notify_waiters();
    }

    /// Returns when `/changes` has answered a question asked from now on (rule 1).
    pub(crate) async fn synchronise(&self) {
        let called_at = self.clock.now();
        self.state.borrow_mut().history.demand(called_at);
        self.poke();
        while self.state.borrow().history.confirmed_at < called_at {
            self.answered.notified().await;
        }
    }
}
