//! An emulator of the Android Management API's operations, and of the endpoints that issue access tokens for it, for
//! development and tests.
//!
//! `server` accepts a connection, `route` finds the route of a request, and `request` reads its body. For an API
//! call, the bearer token (`access_token`) and the quota (`quota`) are checked, and the call reads or changes
//! operations (`api`, `store`). Every other request is a token request. `token_route` injects the configured fault
//! and calls the token endpoint (`token_endpoint`, `assertion`), the token exchange (`sts`), the source of subject
//! tokens (`subject_token`), the metadata server (`metadata`) or IAM Credentials (`iam`). At Google, each endpoint
//! has its own host. Here they differ by path.
//!
//! The crate shares no code with the product, so that a misunderstanding of the API in the client is not repeated here.
//!
//! There is a credential file of each kind (`credential_file`), each with its principal (`account`). Further service
//! accounts are created by name. A token records its principal and its scopes, so that a test can check which
//! credential a call used ([`Control::callers`]).
//!
//! # Sources and guesses
//!
//! Paths, parameters and schemas are those of the API's discovery document (revision 20261104). The forms of errors
//! and the result of a `WIPE` are as users of the API have reported them. Google does not publish
//!
//! - the response to a `cancel` of an operation that is done: here 400, `FAILED_PRECONDITION`;
//! - the error of an expired command: here `error.code` 4 (`DEADLINE_EXCEEDED`);
//! - the filters and the order of `list`: here `done` and `metadata.type`, oldest first;
//! - the order of `devices.list`: here by the device's id.
//!
//! The token endpoints follow RFC 6749, 7523 and 8693, AIP-4110 to AIP-4117, and the pages that the modules name. Error
//! texts are those that Google's users quote. Guesses are
//!
//! - the text of the token exchange's error about a subject token;
//! - the scopes that the metadata server grants: here those in the request, otherwise `cloud-platform`;
//! - the errors about a disabled account: `invalid_grant` for its assertion, refresh token or subject token, 404 from the
//!   metadata server, 400 `FAILED_PRECONDITION` when it is impersonated, and 401 with the reason `ACCOUNT_STATE_INVALID`
//!   for a token issued before.
//!
//! A person and a workload may call the API here. Google does not publish whether its API lets them.
//!
//! A call with an injected fault (503, 429, reset) has no effect.

mod access_token;
mod account;
mod api;
mod api_error;
mod assertion;
mod call_log;
mod command;
mod control;
mod credential_file;
mod denial;
mod device_list;
mod endpoint;
mod iam;
mod key;
mod list;
mod metadata;
mod operation;
mod quota;
mod request;
mod response;
mod route;
mod server;
mod settings;
mod shared;
mod store;
mod sts;
mod subject_token;
mod token_endpoint;
mod token_route;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use crate::api_error::ApiError;
pub use crate::control::Control;
pub use crate::credential_file::{CredentialFile, Kind};
pub use crate::denial::Denial;
pub use crate::endpoint::{Condition, Conditions, Endpoint};
pub use crate::quota::Quota;
pub use crate::settings::{DeviceFault, Fault, FaultRates, InvalidRates, Settings};
pub use crate::shared::Queries;

use crate::shared::{Shared, lock};

/// A running emulator. It serves in the background until [`shutdown`](Self::shutdown), or until it is dropped.
pub struct Emulator {
    address: SocketAddr,
    url: String,
    control: Control,
    stop: watch::Sender<()>,
    serving: JoinHandle<()>,
}

impl Emulator {
    /// Starts an emulator that listens on `listen` (port 0: any free port) and trusts a service account with a fresh
    /// key. It accepts connections when this returns.
    ///
    /// The emulator listens on any address. Its callers decide whether the address is safe.
    ///
    /// # Errors
    /// The address cannot be bound, no key can be generated, the call log cannot be opened, or the fault rates are
    /// not valid ([`io::ErrorKind::InvalidInput`]).
    pub async fn start(listen: SocketAddr, settings: Settings) -> io::Result<Self> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        settings.faults.validate().map_err(invalid)?;
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let url = format!("http://{}", reachable(address));
        let generate = {
            let url = url.clone();
            move || Shared::generate(url, settings)
        };
        let shared = tokio::task::spawn_blocking(generate).await.map_err(io::Error::other)??;
        let shared = Arc::new(shared);
        let (stop, stopped) = watch::channel(());
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&shared), stopped));
        Ok(Self { address, url, control: Control(shared), stop, serving })
    }

    /// The address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root of the API and of all endpoints (see [`Endpoint`]), `http://HOST:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The key file of the first service account.
    pub fn credentials(&self) -> &CredentialFile {
        &self.control.0.credentials
    }

    /// A credential file of any kind, with URLs of this emulator. Some kinds name a file with a subject token. The
    /// emulator owns that file and removes it when the emulator and every [`Control`] are dropped.
    pub fn credential_file(&self, kind: Kind) -> CredentialFile {
        credential_file::of_kind(&self.control.0, kind)
    }

    /// The principal of the calls made with a credential file of this kind: an address, or the identifier of a
    /// workload.
    pub fn principal(&self, kind: Kind) -> String {
        kind.principal()
    }

    /// The key file of the service account `NAME@countermand-emulator.iam.gserviceaccount.com`, which is created when
    /// it does not exist.
    ///
    /// # Errors
    /// The name is not 1 to 30 of `a-z`, `0-9` and `-`.
    pub fn service_account(&self, name: &str) -> io::Result<CredentialFile> {
        let mut accounts = lock(&self.control.0.accounts);
        let account = accounts.named(name)?.clone();
        Ok(credential_file::service_account(&account, accounts.key.private(), &self.control.0.token_url()))
    }

    /// The value of `GCE_METADATA_HOST`, `HOST:PORT`, with which a client uses this emulator as the metadata server.
    pub fn metadata_host(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The address of the metadata server's service account.
    pub fn metadata_principal(&self) -> &'static str {
        account::MACHINE_ACCOUNT
    }

    /// The handle that issues commands, counts queries and changes settings while the emulator runs.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Stops: no new connection is accepted, and calls in flight have one second to finish.
    ///
    /// # Errors
    /// The serving task has failed.
    pub async fn shutdown(self) -> io::Result<()> {
        drop(self.stop);
        self.serving.await.map_err(io::Error::other)
    }
}

/// The address at which a client on this machine reaches a listener.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
