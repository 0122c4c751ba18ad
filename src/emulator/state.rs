//! What the emulator's connections share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::account::Account;
use super::quota::Window;
use super::route::Call;
use super::settings::{Fault, Settings, TokenEndpoint};
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

    pub(super) fn queries(&self) -> Queries {
        let Counts { issue, get, list, cancel, token } = &self.counts;
        let [issue, get, list, cancel, token] =
            [issue, get, list, cancel, token].map(|count| count.load(Ordering::Relaxed));
        Queries { issue, get, list, cancel, token }
    }
}
