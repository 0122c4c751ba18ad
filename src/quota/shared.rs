//! The budgets that replicas share through Redis or Valkey.
//!
//! Each project has one hash, which the script `gcra.lua` reads and writes with the server's clock. A call of the script
//! that takes over 50 ms, or has an error, means that the store is away. Each replica then uses its part of each budget,
//! and continues from the last reply, so that the replicas together stay within the budget. A task connects again every
//! second, sends a heartbeat for each project every second, and returns what this replica used in the meantime.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use rustls::RootCertStore;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::gcra::{Admission, Pace, State, micros};
use crate::{
    background::Background,
    file_watch::changed_if_any,
    http_client::Authorities,
    telemetry::metrics::{QuotaMetrics, ReloadCounter, ReloadKind, SharedCallOutcome},
};

mod connection;
mod login;
mod script;
pub mod settings;
mod store_error;

use connection::{StoreConnection, connect};
use login::{LoadedLogin, Login};
use script::{Census, ScriptCall, ScriptReply, load_script};
use settings::{LoadedStore, StoreConfig};
use store_error::StoreError;

/// A call that takes longer means that the store is away.
pub const CALL_TIMEOUT: Duration = Duration::from_millis(50);

tokio::task_local! {
    /// The time limit of a call, in place of [`CALL_TIMEOUT`], for the stores that a task of a test starts. No setting,
    /// because a longer limit delays cancels.
    #[doc(hidden)]
    pub static TEST_CALL_TIMEOUT: Duration;
}

/// The time limit of the probe of a check, which reports a slower call than [`CALL_TIMEOUT`] with its time.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The interval of heartbeats, and of attempts to connect.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The time after which a replica without a heartbeat no longer counts. The script has the same.
const HEARTBEAT_LIFETIME: Duration = Duration::from_secs(10);

/// The number of heartbeats in flight.
const CONCURRENT_HEARTBEATS: usize = 16;

/// The maximum number of queries of a class in one call, so that the script is short.
const MAX_BATCH: u32 = 1000;

/// Replies whose times of the store differ by more are not of calls in flight at the same time: the clock was set back. In
/// microseconds.
const MAX_DISORDER: f64 = 1e6;

/// The project whose hash a check uses. No project has such an id.
const CHECKED_PROJECT: &str = "#check";

/// The store of the shared budgets. Cheap to clone. The connection closes when the last clone is dropped.
#[derive(Clone)]
pub struct SharedStore {
    store: Arc<Store>,
    _keeper: Arc<AbortOnDropHandle<()>>,
}

struct Store {
    config: StoreConfig,
    /// The name of this replica: random, so that a restarted replica is another one.
    replica: String,
    /// The time limit of a call: [`CALL_TIMEOUT`], except in tests.
    call_timeout: Duration,
    metrics: QuotaMetrics,
    link: Mutex<Link>,
    /// Wakes the task that connects and sends heartbeats.
    wake: Notify,
    budgets: Mutex<Vec<Weak<SharedBudget>>>,
}

/// The connection to the store.
enum Link {
    /// The first attempt has not ended.
    Starting,
    Up(StoreConnection),
    /// With the cause that was logged.
    Away(StoreError),
}

/// The shared state of one project's limiter, and what this replica knows of it.
pub struct SharedBudget {
    store: SharedStore,
    key: String,
    /// The zero of the clock of `mirror`.
    start: Instant,
    mirror: Mutex<Mirror>,
    /// The number of queries that wait in this replica, by class.
    queued: [AtomicU32; 3],
}

/// The state by the last reply, or as this replica continued it while the store was away.
#[derive(Debug, Clone, Copy, Default)]
struct Mirror {
    state: State,
    /// The time of the store in the last reply. Replies can be read in another order.
    store_time: f64,
    census: Option<Census>,
    /// The number of replicas before the store returned, and the time of the return. The others may return later.
    before_return: Option<(u32, Instant)>,
}

/// The state of a shared budget as this replica knows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharedSnapshot {
    /// The state of the limiter.
    pub state: State,
    /// The time now, by the clock of `state`.
    pub now: f64,
    /// The number of replicas, with this one.
    pub replicas: u32,
    /// Whether the store is away, so that this replica uses one of `replicas` equal parts.
    pub is_away: bool,
    /// The number of queries that wait in the other replicas, by class.
    pub queued_elsewhere: [u32; 3],
}

impl SharedStore {
    /// Starts the task that connects to the store. The store need not be up.
    #[must_use]
    pub fn start(
        config: StoreConfig,
        loaded: LoadedStore,
        metrics: QuotaMetrics,
        background: &Background,
    ) -> Self {
        let store = Arc::new(Store {
            config,
            replica: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            call_timeout: TEST_CALL_TIMEOUT.try_with(|limit| *limit).unwrap_or(CALL_TIMEOUT),
            metrics,
            link: Mutex::new(Link::Starting),
            wake: Notify::new(),
            budgets: Mutex::default(),
        });
        let up = Arc::downgrade(&store);
        store.metrics.shared_up.read_value_with(move || {
            f64::from(u8::from(up.upgrade().is_some_and(|store| store.connection().is_some())))
        });
        let LoadedStore { login, authorities } = loaded;
        let reloads = background.reloads(ReloadKind::QuotaShared);
        let keeper = keep(Arc::clone(&store), login, authorities.start(background), reloads);
        let keeper = background.spawn("shared quota", keeper);
        Self { store, _keeper: Arc::new(AbortOnDropHandle::new(keeper)) }
    }

    /// The shared budget of a project. The empty text is an unknown project. Call once per project.
    #[must_use]
    pub fn budget(&self, project: &str) -> Arc<SharedBudget> {
        let budget = Arc::new(SharedBudget {
            store: self.clone(),
            key: script::key(project),
            start: Instant::now(),
            mirror: Mutex::default(),
            queued: Default::default(),
        });
        let mut budgets = lock(&self.store.budgets);
        budgets.retain(|budget| budget.strong_count() > 0);
        budgets.push(Arc::downgrade(&budget));
        drop(budgets);
        // The number of replicas is known before the first heartbeat is due.
        self.store.wake.notify_one();
        budget
    }
}

impl Store {
    fn connection(&self) -> Option<StoreConnection> {
        match &*lock(&self.link) {
            Link::Up(connection) => Some(connection.clone()),
            Link::Starting | Link::Away(_) => None,
        }
    }

    fn budgets(&self) -> Vec<Arc<SharedBudget>> {
        lock(&self.budgets).iter().filter_map(Weak::upgrade).collect()
    }

    /// Runs the script within the time limit of a call.
    async fn call(
        &self,
        mut connection: StoreConnection,
        budget: &SharedBudget,
        call: ScriptCall<'_>,
        is_return: bool,
    ) -> Result<ScriptReply, StoreError> {
        let started = Instant::now();
        let remaining = lock(&budget.mirror).state.remaining(budget.now());
        let run = call.run(&mut connection.commands, &budget.key, is_return, remaining);
        let result = timeout(self.call_timeout, run).await;
        let result = result.unwrap_or(Err(StoreError::Timeout(self.call_timeout)));
        let outcome = match &result {
            Ok(_) => SharedCallOutcome::Success,
            Err(StoreError::Timeout(_)) => SharedCallOutcome::Timeout,
            Err(_) => SharedCallOutcome::Error,
        };
        self.metrics.shared_call(outcome, started.elapsed());
        if let Ok(reply) = &result {
            lock(&budget.mirror).update(reply, budget.now());
        }
        result
    }

    /// Sends the heartbeats of all budgets. `is_return`: after a time without the store, with the states of this replica.
    async fn heartbeats(&self, connection: &StoreConnection, is_return: bool) -> Result<(), StoreError> {
        let budgets = self.budgets();
        if budgets.is_empty() {
            // A lost connection is noticed in the same way.
            return load_script(&mut connection.clone()).await;
        }
        let heartbeats = stream::iter(budgets).map(|budget| async move {
            let queued = budget.queued.each_ref().map(|number| number.load(Relaxed));
            let call = ScriptCall::Heartbeat { replica: &self.replica, queued };
            let reply = self.call(connection.clone(), &budget, call, is_return).await?;
            lock(&budget.mirror).count(reply.census()?, is_return);
            Ok::<(), StoreError>(())
        });
        let mut heartbeats = heartbeats.buffer_unordered(CONCURRENT_HEARTBEATS);
        while let Some(result) = heartbeats.next().await {
            result?;
        }
        Ok(())
    }

    /// The store does not answer on this connection.
    fn lost(&self, connection: &StoreConnection, error: StoreError) {
        let mut link = lock(&self.link);
        if matches!(&*link, Link::Up(current) if current.is_same(connection)) {
            // The next attempt is due with the next heartbeat, so that a slow store gets one connection in a second.
            *link = Link::Away(error.clone());
            drop(link);
            Self::log_away(&self.config, &error);
        }
    }

    /// An attempt to connect failed.
    fn failed_to_connect(&self, error: StoreError) {
        let mut link = lock(&self.link);
        match &*link {
            Link::Starting => Self::log_away(&self.config, &error),
            Link::Away(logged) if *logged != error => {
                tracing::info!(store = %self.config.url, cause = %error, "the shared quota store is still away");
            }
            // A connection with the password before is up.
            Link::Up(_) => return,
            Link::Away(_) => {}
        }
        *link = Link::Away(error);
    }

    fn log_away(config: &StoreConfig, cause: &StoreError) {
        tracing::warn!(
            store = %config.url, %cause,
            "the shared quota store is away: this replica uses its part of each budget"
        );
    }

    fn connected(&self, connection: StoreConnection) {
        let address = Arc::clone(&connection.address);
        let before = std::mem::replace(&mut *lock(&self.link), Link::Up(connection));
        match before {
            Link::Starting => tracing::info!(store = %address, "replicas share the quota"),
            Link::Away(_) => tracing::info!(store = %address, "the shared quota store is back"),
            Link::Up(_) => {}
        }
    }
}

/// A change of the password file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NewPassword {
    /// The store accepts the newest password, or was not asked since the start.
    None,
    /// The newest password was not tried yet.
    Untried,
    /// The store rejects the newest password.
    Rejected,
}

/// Connects, and sends heartbeats.
async fn keep(
    store: Arc<Store>,
    loaded: LoadedLogin,
    mut authorities: Authorities,
    mut reloads: ReloadCounter,
) {
    let LoadedLogin { mut login, file } = loaded;
    let (path, mut file) = file.unzip();
    let path = path.unwrap_or_default();
    let path = path.display();
    let mut new_password = NewPassword::None;
    let mut ticks = interval(HEARTBEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let content = tokio::select! {
            _ = ticks.tick() => None,
            () = store.wake.notified() => None,
            content = changed_if_any(&mut file) => Some(content),
        };
        let current = store.connection();
        match (content.map(|content| login.reload(content)), &current) {
            (Some(Err(problem)), _) => {
                reloads.failed();
                tracing::warn!(file = %path, %problem, "failed to reload the password of the shared quota store");
                continue;
            }
            (Some(Ok(())), _) => new_password = NewPassword::Untried,
            (None, Some(current)) => {
                if let Err(error) = store.heartbeats(current, false).await {
                    store.lost(current, error);
                }
                continue;
            }
            (None, None) => {}
        }
        let opened = open(&store, &authorities.active(), &login, current.is_none()).await;
        let accepted = match opened {
            Ok((connection, accepted)) => {
                store.connected(connection);
                accepted
            }
            Err(error) => {
                store.failed_to_connect(error);
                continue;
            }
        };
        login.accepted(accepted);
        new_password = match (new_password, accepted) {
            (NewPassword::None, _) => NewPassword::None,
            (_, 0) => {
                reloads.succeeded();
                tracing::info!(file = %path, "reloaded the password of the shared quota store");
                NewPassword::None
            }
            (NewPassword::Rejected, _) => NewPassword::Rejected,
            (NewPassword::Untried, _) => {
                reloads.failed();
                tracing::warn!(file = %path, "the shared quota store rejects the new password: the old one stays in use");
                NewPassword::Rejected
            }
        };
    }
}

/// Connects, loads the script, and sends the heartbeats of all budgets.
async fn open(
    store: &Store,
    roots: &Arc<RootCertStore>,
    login: &Login,
    is_return: bool,
) -> Result<(StoreConnection, usize), StoreError> {
    let (mut connection, accepted) = connect(&store.config, roots, login).await?;
    load_script(&mut connection).await?;
    store.heartbeats(&connection, is_return).await?;
    Ok((connection, accepted))
}

/// The result of a [`probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The address of the store.
    pub address: String,
    /// The time of the call of the script.
    pub call_time: Duration,
}

/// Connects to the store and runs the script.
///
/// # Errors
///
/// A sentence with the address and the cause. No secret is in it.
pub async fn probe(config: &StoreConfig, loaded: LoadedStore) -> Result<Probed, String> {
    let LoadedStore { login, authorities } = loaded;
    let roots = authorities.start(&Background::unsupervised()).active();
    let run = async {
        let (mut connection, _) = connect(config, &roots, &login.login).await?;
        load_script(&mut connection).await?;
        let key = script::key(CHECKED_PROJECT);
        let heartbeat = ScriptCall::Heartbeat { replica: "check", queued: [0; 3] };
        let started = Instant::now();
        let nothing = State::default().remaining(0.0);
        let run = heartbeat.run(&mut connection.commands, &key, false, nothing);
        timeout(PROBE_TIMEOUT, run).await.unwrap_or(Err(StoreError::Timeout(PROBE_TIMEOUT)))?.census()?;
        let call_time = started.elapsed();
        // A command that the script uses too, so that it needs no further permission.
        connection.query::<bool>(redis::cmd("PEXPIRE").arg(&key).arg(1)).await?;
        Ok(Probed { address: connection.address.to_string(), call_time })
    };
    run.await.map_err(|error: StoreError| format!("{}: {error}", config.url))
}

impl SharedBudget {
    /// Admits up to the `wanted` number of queries of each class: by the store, or by this replica if the store is away.
    /// At most 1,000 queries of a class are admitted at once.
    ///
    /// The wait of a class that was admitted gives each other replica with queries of that class as many turns.
    /// Otherwise the replica with the fastest network would have all turns.
    pub async fn admit(&self, pace: Pace, wanted: [u32; 3]) -> Admission {
        let wanted = wanted.map(|number| number.min(MAX_BATCH));
        let Some(mut admission) = self.call(ScriptCall::Admit { pace, wanted }, ScriptReply::admission).await
        else {
            return self.admit_own(pace, wanted);
        };
        let Mirror { state, census, .. } = *lock(&self.mirror);
        let interval = state.interval(pace, self.now());
        for (class, contenders) in census.map_or([0; 3], |census| census.contenders).into_iter().enumerate() {
            let turns = u64::from(admission.admitted[class]) * u64::from(contenders);
            admission.wait[class] += turns as f64 * interval;
        }
        admission
    }

    /// As [`Self::admit`], without waiting. `None` if the store is up.
    pub fn admit_while_away(&self, pace: Pace, wanted: [u32; 3]) -> Option<Admission> {
        let is_away = self.store.store.connection().is_none();
        is_away.then(|| self.admit_own(pace, wanted))
    }

    /// Google refused a query for the quota. Does not wait for the store.
    pub fn refused(self: &Arc<Self>, pace: Pace, hold: f64) {
        let own = move |state: &mut State, now| state.refused(pace, now, hold);
        self.report(ScriptCall::Refused { pace, hold }, own);
    }

    /// Google answered a cancel that probed the hold. Does not wait for the store.
    pub fn probe_answered(self: &Arc<Self>) {
        self.report(ScriptCall::ProbeAnswered, State::probe_answered);
    }

    /// Sets the number of queries that wait in this replica, which the next heartbeat reports to the others.
    pub fn set_queued(&self, queued: [u32; 3]) {
        for (number, queued) in self.queued.iter().zip(queued) {
            number.store(queued, Relaxed);
        }
    }

    /// The state as this replica knows it.
    #[must_use]
    pub fn snapshot(&self) -> SharedSnapshot {
        let is_away = self.store.store.connection().is_none();
        let Mirror { state, census, .. } = *lock(&self.mirror);
        let replicas = census.map_or(self.store.store.config.replicas, |census| census.replicas);
        let queued_elsewhere = census.map_or([0; 3], |census| census.queued_elsewhere);
        SharedSnapshot { state, now: self.now(), replicas, is_away, queued_elsewhere }
    }

    /// Changes the mirror, then the state of the store. `own` is idempotent.
    fn report(self: &Arc<Self>, call: ScriptCall<'static>, own: impl Fn(&mut State, f64) + Send + 'static) {
        let budget = Arc::clone(self);
        let change_mirror = move |budget: &Self| own(&mut lock(&budget.mirror).state, budget.now());
        change_mirror(&budget);
        tokio::spawn(async move {
            if budget.call(call, |_| Ok(())).await.is_none() {
                // The reply of another call may have replaced the mirror.
                change_mirror(&budget);
            }
        });
    }

    /// Runs the script. `None` if the store is away.
    async fn call<T>(
        &self,
        call: ScriptCall<'_>,
        result: impl FnOnce(&ScriptReply) -> Result<T, StoreError>,
    ) -> Option<T> {
        let store = &self.store.store;
        let connection = store.connection()?;
        let reply = store.call(connection.clone(), self, call, false).await;
        match reply.and_then(|reply| result(&reply)) {
            Ok(result) => Some(result),
            Err(error) => {
                store.lost(&connection, error);
                None
            }
        }
    }

    /// Admits queries by this replica's part of the budget.
    fn admit_own(&self, pace: Pace, wanted: [u32; 3]) -> Admission {
        let replicas = self.snapshot().replicas;
        lock(&self.mirror).state.admit(pace.divided_by(replicas), self.now(), wanted)
    }

    fn now(&self) -> f64 {
        micros(self.start.elapsed())
    }
}

impl Mirror {
    /// Takes the counts of a heartbeat. For a time after a return of the store, the replicas that have not returned yet
    /// count too.
    fn count(&mut self, census: Census, is_return: bool) {
        if is_return {
            self.before_return = self.census.map(|known| (known.replicas, Instant::now()));
        }
        let absent = self.before_return.filter(|(_, at)| at.elapsed() < HEARTBEAT_LIFETIME);
        let replicas = census.replicas.max(absent.map_or(0, |(replicas, _)| replicas));
        self.census = Some(Census { replicas, ..census });
    }

    /// Takes the state of a reply, unless a later reply was read before.
    fn update(&mut self, reply: &ScriptReply, now: f64) {
        let is_stale = reply.now < self.store_time && self.store_time - reply.now < MAX_DISORDER;
        if !is_stale {
            self.store_time = reply.now;
            self.state = reply.state;
            self.state.shift(now - reply.now);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave a value in an inconsistent state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
