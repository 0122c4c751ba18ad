//! An emulator of the part of the Android Management API (AMAPI) that has to do with operations, and of
//! all that gives tokens for it, for development and tests.
//!
//! A request comes in through `server`, is told by its path what it is for (`route`), and is answered in
//! `http`. An API call is held against its bearer token (`access`), the quota and the store of operations
//! (`api`, `store`). All else is for a token: `endpoint` knows in what condition each endpoint is, and asks
//! the token endpoint (`grant`, `assertion`), the token exchange (`sts`, `subject`), the metadata server
//! (`metadata`) or IAM Credentials (`iam`). At Google each of these has a host of its own; here they differ
//! by path. Nothing here is imported from the rest of the crate, so that a misreading in our client is not
//! repeated.
//!
//! The principals that exist (`account`) have one credential file of each kind (`credential_file`), service
//! accounts by name as many as are asked for. A token knows its principal and its scopes, so that a test can
//! tell which credential a call carried ([`Control::callers`]).
//!
//! # What it knows, and what it guesses
//!
//! Addresses, parameters and schemas are those of the API's discovery document (revision 20261104);
//! forms of errors and the end of a `WIPE` are as users of the API have reported them. Nothing public
//! says
//!
//! - what `cancel` answers about an operation that is done: here 400, `FAILED_PRECONDITION`;
//! - what an expired command shows: here `error.code` 4 (`DEADLINE_EXCEEDED`);
//! - which filters `list` has, and in what order it lists: here `done` and `metadata.type`, oldest first.
//!
//! What gives tokens follows RFC 6749, 7523 and 8693, AIP-4110 to AIP-4117, and the pages that the modules
//! name; errors are worded as Google's users quote them. Guesses are
//!
//! - the words with which the token exchange refuses a subject token;
//! - which scopes the metadata server grants: here those that it is asked for, else `cloud-platform`;
//! - what an account that is disabled gets: `invalid_grant` for its assertion, its refresh token or its
//!   subject token, 404 from the metadata server, 400 `FAILED_PRECONDITION` when it is impersonated, 401
//!   with the reason `ACCOUNT_STATE_INVALID` for a token that it still has.
//!
//! A person and a workload may call the API here; whether Google's lets them is not public.
//!
//! A fault that is injected (503, 429, reset) strikes before its call has had an effect.

mod access;
mod account;
mod answer;
mod api;
mod ask;
mod assertion;
mod command;
mod condition;
mod control;
mod credential_file;
mod endpoint;
mod grant;
mod http;
mod iam;
mod key;
mod list;
mod metadata;
mod oauth;
mod operation;
mod quota;
mod refusal;
mod route;
mod scope;
mod secret_file;
mod server;
mod settings;
mod state;
mod store;
mod sts;
mod subject;
mod token;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::condition::{Condition, Endpoint, Endpoints, TokenEndpoint, UnknownCondition};
pub use self::control::Control;
pub use self::credential_file::{Kind, UnknownKind};
pub use self::refusal::Refusal;
pub use self::secret_file::Credentials;
pub use self::settings::{Fault, FaultRates, InvalidSetting, Quota, Settings};
pub use self::state::Queries;

/// A running emulator. It serves in the background until [`shutdown`](Self::shutdown), or until it is
/// dropped.
pub struct Emulator {
    address: SocketAddr,
    url: String,
    control: Control,
    stop: watch::Sender<()>,
    serving: JoinHandle<()>,
}

impl Emulator {
    /// Starts an emulator that listens on `listen` (port 0: any free port) and trusts a service
    /// account with a fresh key. It accepts connections when this comes back.
    ///
    /// Whether the address is safe to listen on is for the caller to decide: who can reach it can sign
    /// in only with the credentials.
    ///
    /// # Errors
    /// When the address cannot be bound, no key can be made, or a setting makes no sense
    /// ([`io::ErrorKind::InvalidInput`], with an [`InvalidSetting`] inside).
    pub async fn start(listen: SocketAddr, settings: Settings) -> io::Result<Self> {
        if let Some(invalid) = settings.invalid().into_iter().next() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, invalid));
        }
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let url = format!("http://{}", reachable(address));
        let generate = {
            let url = url.clone();
            move || state::State::generate(url, settings)
        };
        let state = tokio::task::spawn_blocking(generate).await.map_err(io::Error::other)??;
        let state = Arc::new(state);
        let (stop, stopped) = watch::channel(());
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&state), stopped));
        Ok(Self { address, url, control: Control(state), stop, serving })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root of its API, `http://HOST:PORT`, and of all its endpoints (see [`Endpoint`]).
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The credentials of the service account that it trusts.
    pub fn credentials(&self) -> &Credentials {
        &self.control.0.credentials
    }

    /// A credential file of any kind, which names URLs of this emulator. The subject token that some kinds
    /// name is a file of the emulator's own, gone when it and every [`Control`] are.
    pub fn credential_file(&self, kind: Kind) -> Credentials {
        credential_file::of_kind(&self.control.0, kind)
    }

    /// Whom a call is from that is made with a credential file of this kind: an address, or the identifier
    /// of a workload.
    pub fn principal(&self, kind: Kind) -> String {
        kind.principal()
    }

    /// The credentials of a further service account, which is made if it is not there. It has the address
    /// `NAME@countermand-emulator.iam.gserviceaccount.com`.
    ///
    /// # Errors
    /// When the name is not 1 to 30 of `a-z`, `0-9` and `-`.
    pub fn service_account(&self, name: &str) -> io::Result<Credentials> {
        let mut accounts = state::lock(&self.control.0.accounts);
        let account = accounts.named(name)?.clone();
        Ok(credential_file::service_account(&account, accounts.key.private(), &self.control.0.token_url()))
    }

    /// What to set `GCE_METADATA_HOST` to, `HOST:PORT`, for a client to take this for the metadata server.
    pub fn metadata_host(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The address of the service account that the metadata server speaks for.
    pub fn metadata_principal(&self) -> &'static str {
        account::MACHINE
    }

    /// Writes the credentials to a file; see [`Credentials::write`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_credentials(&self, path: &Path) -> io::Result<()> {
        self.credentials().write(path)
    }

    /// The handle by which to issue commands, count queries and change settings while it runs.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Stops: no new connection is accepted, and calls in flight have a second to finish.
    ///
    /// # Errors
    /// When the serving task has failed.
    pub async fn shutdown(self) -> io::Result<()> {
        drop(self.stop);
        self.serving.await.map_err(io::Error::other)
    }
}

/// The address by which a client on this machine reaches a listener.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
