//! The only place that builds and connects the parts, supervises them, and drains.

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    admin::Admin,
    amapi::Amapi,
    audit::Audit,
    background::Background,
    config::{self, Config, ListenAddress},
    credentials::{Credentials, SourceError},
    http_client::{Authorities, tls::TlsError},
    operations::{Intervals, Limits, Operations, Times},
    policy::{Policy, mistake::Mistakes},
    server::{
        Drained, Recorder, Server,
        identity::{Identities, TokensError},
    },
    serving::Serving,
};

mod credentials;
mod development;

pub use development::{Development, DevelopmentError};

use credentials::Refreshers;

/// The process must be gone when `drain_timeout` is over, not begin to go.
const MARGIN: Duration = Duration::from_millis(250);

/// A service that is bound to its addresses.
pub struct App {
    server: Server,
    admin: Option<Admin>,
    credentials: Arc<Credentials>,
    refreshers: Refreshers,
    serving: watch::Sender<Serving>,
    flights: TaskTracker,
    recorder: Recorder,
    drain_timeout: Duration,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A credential's file was replaced by something else since the configuration was checked.
    #[error("credential {name}: {cause}")]
    Credential {
        /// What the configuration calls it.
        name: String,
        /// What is wrong with the file now.
        cause: SourceError,
    },
    /// The policy was replaced by something else since the configuration was checked.
    #[error("the policy: {0}")]
    Policy(#[from] Mistakes),
    /// Tokens of callers cannot be verified as it is configured.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The certificates of `upstream.ca_certificates` cannot be used.
    #[error("upstream.ca_certificates: {0}")]
    Tls(#[from] TlsError),
    /// A file cannot be read or an address not be had; the text names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A background task ended on its own, which none does: a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that keeps tokens or keys ready has ended")]
pub struct Defect;

impl App {
    /// Builds everything and binds the addresses. The first tokens are being fetched when this returns.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let Config { server, admin, upstream, credentials, callers, policy, polling, audit, log_format: _ } =
            config;
        let authorities = Authorities::of(upstream.ca_certificates.as_deref())?;
        let (credentials, refreshers) = credentials::start(credentials, upstream, &authorities)?;

        let base = upstream.url.url().clone();
        let amapi = Amapi::new(base, &authorities, Arc::clone(&credentials))?;
        let flights = TaskTracker::new();
        let (serving, state) = watch::channel(Serving::NotReady);
        let policy = match policy {
            Some(file) => Policy::of_file(file)?,
            None => Policy::without_rules(),
        };
        let operations =
            Operations::new(policy, amapi, times(upstream.timeout, polling), state.clone(), flights.clone());
        let identities = Identities::new(callers, &Background::unsupervised())?;
        let drain_timeout = server.drain_timeout;
        let recorder = Recorder::new(Audit::start(audit)?);
        let (recorded, identities) = (recorder.clone(), Arc::new(identities));
        let server =
            Server::bind(server, upstream.timeout, operations, identities, recorded, state.clone()).await?;
        let admin = match admin.listen {
            Some(address) => Some(Admin::bind(address, Arc::clone(&credentials), state).await?),
            None => None,
        };
        Ok(Self { server, admin, credentials, refreshers, serving, flights, recorder, drain_timeout })
    }

    /// The addresses that gRPC is served on.
    #[must_use]
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.server.addresses()
    }

    /// The address of the operator's port.
    #[must_use]
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> Audit {
        self.recorder.audit().clone()
    }

    /// What health says, as it changes.
    #[must_use]
    pub fn serving(&self) -> watch::Receiver<Serving> {
        self.serving.subscribe()
    }

    /// Serves until `stop`, then drains: health says NOT_SERVING, no new connection is taken after a short
    /// grace, the calls in flight end, and so do the cancels whose callers have hung up.
    ///
    /// # Errors
    ///
    /// A background task ended on its own.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Drained, Defect> {
        let Self { server, admin, credentials, refreshers, serving, flights, recorder, drain_timeout } = self;
        if let Some(admin) = admin {
            tokio::spawn(admin.serve());
        }
        let (drain, draining) = watch::channel(false);
        let margin = MARGIN.min(drain_timeout / 10);
        let limit = drain_timeout.saturating_sub(margin);
        let server = tokio::spawn(server.serve(draining, limit));

        tokio::select! {
            () = stop => {}
            () = credentials::report(&credentials, &serving) => {}
            () = refreshers.one_ended() => return Err(Defect),
        }
        let since = Instant::now();
        tracing::info!("draining");
        serving.send_replace(Serving::Draining);
        drain.send_replace(true);
        let mut drained = server.await.map_err(|_| Defect)?;
        flights.close();
        if tokio::time::timeout_at(since + limit, flights.wait()).await.is_err() && drained == Drained::Whole
        {
            drained = Drained::Cut { calls: flights.len() };
        }
        if tokio::time::timeout_at(since + limit + margin / 2, recorder.finish()).await.is_err() {
            tracing::error!("the drain timeout passed before the audit log was written to the end");
        }
        Ok(drained)
    }
}

fn times(upstream_timeout: Duration, polling: &config::Polling) -> Times {
    let config::Polling { min_interval, max_interval, max_wait, cache_entries, cache_max_age } = *polling;
    Times {
        upstream_timeout,
        max_wait,
        intervals: Intervals { min: min_interval, max: max_interval },
        limits: Limits { entries: cache_entries, max_age: cache_max_age, min_interval },
    }
}
