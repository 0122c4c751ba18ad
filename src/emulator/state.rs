//! What the emulator's connections share.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::access::Callers;
use super::account::{self, Accounts};
use super::ask::Ask;
use super::credential_file::service_account;
use super::grant::Consent;
use super::key::Key;
use super::metadata::is_token;
use super::quota::Window;
use super::route::{Call, Target};
use super::secret_file::Credentials;
use super::settings::{Fault, Settings};
use super::store::Store;
use super::subject::Subjects;
use super::token::Tokens;

/// The state of one emulator. No lock is held across an await, and none is taken under another but
/// `settings`, which is always taken first.
pub(super) struct State {
    /// The root of all addresses, without a slash at its end.
    pub(super) url: String,
    /// Those of the first service account.
    pub(super) credentials: Credentials,
    pub(super) consent: Consent,
    pub(super) accounts: Mutex<Accounts>,
    pub(super) subjects: Mutex<Subjects>,
    pub(super) callers: Mutex<Callers>,
    pub(super) settings: Mutex<Settings>,
    pub(super) store: Mutex<Store>,
    pub(super) tokens: Mutex<Tokens>,
    pub(super) window: Mutex<Window>,
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
    sts: AtomicU64,
    subject_token: AtomicU64,
    metadata: AtomicU64,
    metadata_token: AtomicU64,
    iam: AtomicU64,
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
    /// The token exchange.
    pub sts: u64,
    /// The source of subject tokens.
    pub subject_token: u64,
    /// The metadata server, tokens and all else.
    pub metadata: u64,
    /// Those of `metadata` that were for a token.
    pub metadata_token: u64,
    /// `generateAccessToken`.
    pub iam: u64,
}

/// Locks, even after a panic elsewhere: every change under these locks is complete at each step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// A state with fresh secrets, for an emulator whose root is `url`. Blocks while it makes them.
    pub(super) fn generate(url: String, settings: Settings) -> io::Result<Self> {
        let mut accounts = Accounts::new(Key::generate()?)?;
        let first = accounts.named(account::FIRST)?.clone();
        let credentials = service_account(&first, accounts.key.private(), &token_url(&url));
        Ok(Self {
            credentials,
            url,
            consent: Consent::generate()?,
            accounts: Mutex::new(accounts),
            subjects: Mutex::new(Subjects::new()?),
            callers: Mutex::default(),
            settings: Mutex::new(settings),
            store: Mutex::new(Store::new()),
            tokens: Mutex::default(),
            window: Mutex::default(),
            script: Mutex::default(),
            counts: Counts::default(),
        })
    }

    /// The token endpoint's address, which is the audience of assertions.
    pub(super) fn token_url(&self) -> String {
        token_url(&self.url)
    }

    /// Counts a request for `path`.
    pub(super) fn count(&self, target: &Target, path: &str) {
        let count = match target {
            Target::Api(Call::Issue(_)) => &self.counts.issue,
            Target::Api(Call::Get(..)) => &self.counts.get,
            Target::Api(Call::List(_)) => &self.counts.list,
            Target::Api(Call::Cancel(..)) => &self.counts.cancel,
            Target::Endpoint(Ask::Token) => &self.counts.token,
            Target::Endpoint(Ask::Sts) => &self.counts.sts,
            Target::Endpoint(Ask::SubjectToken) => &self.counts.subject_token,
            Target::Endpoint(Ask::Metadata) => &self.counts.metadata,
            Target::Endpoint(Ask::GenerateAccessToken(_)) => &self.counts.iam,
        };
        count.fetch_add(1, Ordering::Relaxed);
        if *target == Target::Endpoint(Ask::Metadata) && is_token(path) {
            self.counts.metadata_token.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn queries(&self) -> Queries {
        let Counts { issue, get, list, cancel, token, sts, subject_token, metadata, metadata_token, iam } =
            &self.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Queries {
            issue: read(issue),
            get: read(get),
            list: read(list),
            cancel: read(cancel),
            token: read(token),
            sts: read(sts),
            subject_token: read(subject_token),
            metadata: read(metadata),
            metadata_token: read(metadata_token),
            iam: read(iam),
        }
    }
}

fn token_url(url: &str) -> String {
    format!("{url}/token")
}
