//! What the emulator's connections share, and the handle by which a test or `dev` works on it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::account::Account;
use super::command::Command;
use super::quota::Window;
use super::refusal::Refusal;
use super::route::{Call, Device};
use super::settings::{Fault, FaultRates, InvalidSetting, Quota, Settings, TokenEndpoint};
use super::store::Store;
use super::token::Tokens;

/// The state of one emulator. No lock is held across an await, and none is taken under another but
/// `settings`, which is always taken first.
pub(super) struct State {
    pub(super) token_url: String,
    pub(super) account: Account,
    pub(super) settings: Mutex<Settings>,
    pub(super) store: Mutex<Store>,
    pub(super) tokens: Mutex<Tokens>,
    pub(super) window: Mutex<Window>,
    pub(super) token_endpoint: Mutex<TokenEndpoint>,
    /// What the next API calls meet, before chance has its turn.
    pub(super) script: Mutex<VecDeque<Fault>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    issue: AtomicU64,
    get: AtomicU64,
    list: AtomicU64,
    cancel: AtomicU64,
    token: AtomicU64,
}

/// How many requests of each kind have arrived over HTTP, whatever they were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queries {
    /// `enterprises.devices.issueCommand`
    pub issue: u64,
    /// `enterprises.devices.operations.get`
    pub get: u64,
    /// `enterprises.devices.operations.list`
    pub list: u64,
    /// `enterprises.devices.operations.cancel`
    pub cancel: u64,
    /// The token endpoint.
    pub token: u64,
}

/// A handle on a running emulator: issues commands as if by another client, looks at operations, counts
/// queries, and changes settings. It does not keep the emulator running.
#[derive(Clone)]
pub struct Control(pub(super) Arc<State>);

/// Locks, even after a panic elsewhere: every change under these locks is complete at each step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(super) fn new(token_url: String, account: Account, settings: Settings) -> Self {
        Self {
            token_url,
            account,
            settings: Mutex::new(settings),
            store: Mutex::new(Store::new()),
            tokens: Mutex::default(),
            window: Mutex::default(),
            token_endpoint: Mutex::default(),
            script: Mutex::default(),
            counts: Counts::default(),
        }
    }

    pub(super) fn count(&self, call: &Call) {
        let count = match call {
            Call::Issue(_) => &self.counts.issue,
            Call::Get(..) => &self.counts.get,
            Call::List(_) => &self.counts.list,
            Call::Cancel(..) => &self.counts.cancel,
            Call::Token => &self.counts.token,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Control {
    /// Issues a command to `device` (`enterprises/*/devices/*`) and gives the new operation's JSON, as
    /// the API's `issueCommand` would. It takes no quota and counts as no query.
    ///
    /// # Errors
    /// What the API would answer: `INVALID_ARGUMENT` for a wrong name or command, `NOT_FOUND` for a
    /// device that does not exist.
    pub fn issue_command(&self, device: &str, command: Value) -> Result<Value, Refusal> {
        let name = || Refusal::invalid_argument("name", "not enterprises/*/devices/*");
        let device = Device::parse(device).ok_or_else(name)?;
        let command = Command::parse(command)?;
        let settings = lock(&self.0.settings);
        lock(&self.0.store).issue(&device, command, &settings, Instant::now())
    }

    /// An operation's JSON as it is now; `None` when there is none of that name.
    pub fn operation(&self, name: &str) -> Option<Value> {
        let (device, id) = split(name)?;
        lock(&self.0.store).get(&device, id, Instant::now()).ok()
    }

    /// The names of the operations that are pending now, oldest first.
    pub fn pending(&self) -> Vec<String> {
        lock(&self.0.store).pending(Instant::now())
    }

    /// Lets the device run a pending command now; `false` when there is no operation of that name.
    pub fn execute(&self, name: &str) -> bool {
        split(name).is_some_and(|(device, id)| lock(&self.0.store).execute(&device, id, Instant::now()))
    }

    /// Drops an operation, as Google does some time after it is done; `false` when there is none of
    /// that name.
    pub fn forget(&self, name: &str) -> bool {
        split(name).is_some_and(|(device, id)| lock(&self.0.store).forget(&device, id))
    }

    /// How many requests have arrived so far.
    pub fn queries(&self) -> Queries {
        let Counts { issue, get, list, cancel, token } = &self.0.counts;
        let [issue, get, list, cancel, token] =
            [issue, get, list, cancel, token].map(|count| count.load(Ordering::Relaxed));
        Queries { issue, get, list, cancel, token }
    }

    /// Changes [`Settings::pick_up`] for the commands that are issued from now on.
    pub fn set_pick_up(&self, pick_up: Option<Duration>) {
        lock(&self.0.settings).pick_up = pick_up;
    }

    /// Changes [`Settings::cancel_delay`] for the cancels that arrive from now on.
    pub fn set_cancel_delay(&self, delay: Duration) {
        lock(&self.0.settings).cancel_delay = delay;
    }

    /// Changes [`Settings::latency`] for the calls that arrive from now on.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.0.settings).latency = latency;
    }

    /// Changes [`Settings::quota`]; the calls admitted so far go on counting.
    pub fn set_quota(&self, quota: Option<Quota>) {
        lock(&self.0.settings).quota = quota;
    }

    /// Changes [`Settings::token_lifetime`] for the tokens that are issued from now on.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        lock(&self.0.settings).token_lifetime = lifetime;
    }

    /// Changes [`Settings::faults`].
    ///
    /// # Errors
    /// When the rates are no shares.
    pub fn set_faults(&self, faults: FaultRates) -> Result<(), InvalidSetting> {
        faults.validate()?;
        lock(&self.0.settings).faults = faults;
        Ok(())
    }

    /// Lets the next `count` API calls meet `fault`, after those that earlier calls of this have
    /// asked for.
    pub fn fail_next(&self, count: usize, fault: Fault) {
        lock(&self.0.script).extend(std::iter::repeat_n(fault, count));
    }

    /// Ends the validity of every access token that is out: the next call with one gets a 401.
    pub fn revoke_tokens(&self) {
        lock(&self.0.tokens).revoke_all(Instant::now());
    }

    /// Says how the token endpoint answers from now on.
    pub fn set_token_endpoint(&self, mode: TokenEndpoint) {
        *lock(&self.0.token_endpoint) = mode;
    }
}

fn split(name: &str) -> Option<(Device, &str)> {
    let (device, id) = name.split_once("/operations/")?;
    Some((Device::parse(device)?, id))
}
