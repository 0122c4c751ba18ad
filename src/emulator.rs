//! An emulator of the part of the Android Management API (AMAPI) that has to do with operations, and of
//! Google's token endpoint, for development and tests.
//!
//! A request comes in through `server`, is given its method and resource by its path (`route`), and is
//! answered in `http`: a token request against the account's key (`assertion`, `token`), an API call against
//! its bearer token, the quota and the store of operations (`api`, `store`). Nothing here is imported from the
//! rest of the crate, so that a misreading of the API in our client is not repeated.
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
//! A fault that is injected (503, 429, reset) strikes before its call has had an effect.

mod account;
mod api;
mod assertion;
mod command;
mod control;
mod http;
mod list;
mod operation;
mod quota;
mod refusal;
mod route;
mod server;
mod settings;
mod state;
mod store;
mod token;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::account::Credentials;
pub use self::control::Control;
pub use self::refusal::Refusal;
pub use self::settings::{Fault, FaultRates, InvalidSetting, Quota, Settings, TokenEndpoint};
pub use self::state::Queries;

/// A running emulator. It serves in the background until [`shutdown`](Self::shutdown), or until it is
/// dropped.
pub struct Emulator {
    address: SocketAddr,
    url: String,
    credentials: Credentials,
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
        let token_url = format!("{url}/token");
        let (account, credentials) = {
            let token_url = token_url.clone();
            let generate = move || account::Account::generate(&token_url);
            tokio::task::spawn_blocking(generate).await.map_err(io::Error::other)??
        };
        let state = Arc::new(state::State::new(token_url, account, settings));
        let (stop, stopped) = watch::channel(());
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&state), stopped));
        Ok(Self { address, url, credentials, control: Control(state), stop, serving })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root of its API, `http://HOST:PORT`; the token endpoint is `/token` below it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The credentials of the service account that it trusts.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Writes the credentials to a file; see [`Credentials::write`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_credentials(&self, path: &Path) -> io::Result<()> {
        self.credentials.write(path)
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
