//! The state that all connections of an emulator share.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::access_token::{AccessTokens, RecentCallers};
use crate::account::{self, Accounts};
use crate::call_log::CallLog;
use crate::credential_file::{CredentialFile, service_account};
use crate::key::RsaKey;
use crate::metadata::is_token_path;
use crate::quota::QuotaWindow;
use crate::route::{ApiCall, Route};
use crate::settings::{DeviceFault, Fault, Settings};
use crate::store::Store;
use crate::subject_token::SubjectTokens;
use crate::token_endpoint::UserCredentials;
use crate::token_route::TokenRoute;

/// The state of one emulator. No lock is held across an await. No lock is taken under another, except under `settings`,
/// which is always taken first.
pub(crate) struct Shared {
    /// The root of all addresses, without a trailing slash.
    pub(crate) url: String,
    /// The key file of the first service account.
    pub(crate) credentials: CredentialFile,
    pub(crate) user: UserCredentials,
    pub(crate) accounts: Mutex<Accounts>,
    pub(crate) subject_tokens: Mutex<SubjectTokens>,
    pub(crate) callers: Mutex<RecentCallers>,
    pub(crate) settings: Mutex<Settings>,
    pub(crate) store: Mutex<Store>,
    pub(crate) tokens: Mutex<AccessTokens>,
    pub(crate) quota: Mutex<QuotaWindow>,
    /// The faults of the next API calls, which come before random ones.
    pub(crate) queued_faults: Mutex<VecDeque<Fault>>,
    /// The behavior of single devices, by their names.
    pub(crate) device_faults: Mutex<HashMap<String, DeviceFault>>,
    pub(crate) queries: Mutex<Queries>,
    pub(crate) call_log: Option<Mutex<CallLog>>,
}

/// The number of HTTP requests of each kind, regardless of their responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queries {
    /// `enterprises.devices.issueCommand`
    pub issue: u64,
    /// `enterprises.devices.operations.get`
    pub get: u64,
    /// `enterprises.devices.list`
    pub devices: u64,
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
    /// The metadata server.
    pub metadata: u64,
    /// The requests of `metadata` for a token.
    pub metadata_token: u64,
    /// `generateAccessToken`.
    pub iam: u64,
}

/// Locks a mutex, even after a panic in another thread. Every change under these locks is complete at each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// State with fresh secrets, for an emulator whose root is `url`. Blocks while it generates them and opens the call
    /// log.
    pub(crate) fn generate(url: String, settings: Settings) -> io::Result<Self> {
        let mut accounts = Accounts::new(RsaKey::generate()?)?;
        let first = accounts.named(account::FIRST_ACCOUNT)?.clone();
        let call_log = settings.call_log.as_deref().map(CallLog::open).transpose()?.map(Mutex::new);
        let credentials = service_account(&first, accounts.key.private(), &token_url(&url));
        Ok(Self {
            credentials,
            url,
            user: UserCredentials::generate()?,
            accounts: Mutex::new(accounts),
            subject_tokens: Mutex::new(SubjectTokens::new()?),
            callers: Mutex::default(),
            settings: Mutex::new(settings),
            store: Mutex::new(Store::new()),
            tokens: Mutex::default(),
            quota: Mutex::default(),
            queued_faults: Mutex::default(),
            device_faults: Mutex::default(),
            queries: Mutex::default(),
            call_log,
        })
    }

    /// The token endpoint's address, which is the audience of assertions.
    pub(crate) fn token_url(&self) -> String {
        token_url(&self.url)
    }

    /// Counts a request for `path`.
    pub(crate) fn count(&self, route: &Route, path: &str) {
        let mut queries = lock(&self.queries);
        let count = match route {
            Route::Api(ApiCall::Issue(_)) => &mut queries.issue,
            Route::Api(ApiCall::Get(..)) => &mut queries.get,
            Route::Api(ApiCall::Devices(_)) => &mut queries.devices,
            Route::Api(ApiCall::List(_)) => &mut queries.list,
            Route::Api(ApiCall::Cancel(..)) => &mut queries.cancel,
            Route::Token(TokenRoute::TokenEndpoint) => &mut queries.token,
            Route::Token(TokenRoute::Sts) => &mut queries.sts,
            Route::Token(TokenRoute::SubjectToken) => &mut queries.subject_token,
            Route::Token(TokenRoute::Metadata) => {
                queries.metadata_token += u64::from(is_token_path(path));
                &mut queries.metadata
            }
            Route::Token(TokenRoute::GenerateAccessToken(_)) => &mut queries.iam,
        };
        *count += 1;
    }
}

fn token_url(url: &str) -> String {
    format!("{url}/token")
}
