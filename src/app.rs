//! Builds and connects the components, supervises them and drains. No other module connects components.

use std::{
    future::{self, Future},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{
    admin::{HttpPort, Operator, Pages},
    amapi::Amapi,
    audit::Audit,
    background::{Background, TaskExits},
    credentials::Credentials,
    http_client::tls::TlsError,
    operations::{CacheLimits, Operations, PollIntervals, Times, guard::Guard, settings::Polling},
    policy::Policy,
    quota::{Quota, shared::SharedStore},
    server::{
        Drained, Router, Server,
        call::Calls,
        identity::Identities,
        settings::{Limits, ListenAddress},
    },
    serving::Serving,
    systemd::{PassedSocketError, PassedSockets},
    telemetry::{
        log::LogLevels,
        metrics::{Metrics, ReloadKind},
        traces::Traces,
    },
};

pub mod config;
mod credentials;
mod open_files;
mod reload;

pub use config::Config;
use config::{LoadedFiles, Settings};
use credentials::CredentialPool;
use reload::{DrainTimes, ReloadTargets};
pub use reload::{Reloaded, Reloader};

/// The drain ends this much before `drain_timeout`, so that the process ends within it unless the drain ends thousands of
/// calls.
const DRAIN_MARGIN: Duration = Duration::from_millis(250);

/// The maximum number of pauses in which responses are sent after the audit log is flushed, each a quarter of the margin.
const MAX_RESPONSE_PAUSES: u32 = 16;

/// A service that is bound to its addresses.
pub struct App {
    server: Server,
    admin: Option<(HttpPort, Pages)>,
    telemetry: Option<(HttpPort, Pages)>,
    /// Notified by `/quitquitquit`. `None` if `admin.quit` is off.
    quit: Option<Arc<Notify>>,
    credentials: Arc<Credentials>,
    serving: watch::Sender<Serving>,
    calls: Arc<Calls>,
    audit: Audit,
    traces: Option<Traces>,
    background: Background,
    exits: TaskExits,
    drain: Arc<DrainTimes>,
    reloader: Reloader,
}

/// The reason why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A TLS client cannot be built.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file cannot be read, or an address is not available. The text contains the path or the address.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// systemd passed a socket on an address that no setting names. The text has the address.
    #[error(transparent)]
    PassedSocket(PassedSocketError),
}

/// A background task ended on its own, which is a defect. The process has drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("background task ended: {task}")]
pub struct Defect {
    /// The name of the task.
    pub task: &'static str,
}

impl App {
    /// Builds the service and binds the addresses. The first token requests are in flight when this returns. An address
    /// of `passed` is not bound, but served on the passed socket.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn start(config: Config, mut passed: PassedSockets) -> Result<Self, StartError> {
        let Config { settings, loaded, proxy, traces, unknown_variables: _, file: _, effective } = config;
        let Settings {
            server,
            limits,
            tls: _,
            admin,
            upstream,
            credentials,
            policy: _,
            callers,
            jwt,
            polling,
            guard,
            audit,
            telemetry,
            quota,
            quota_shared,
            log: _,
        } = settings;
        let max_connections = open_files::fit_connections(limits.max_connections);
        let limits = Limits { max_connections, ..limits };
        let LoadedFiles { tls, authorities, keys, policy, credentials: loaded_credentials, quota_store } =
            loaded;
        let (metrics, registry) = Metrics::new();
        let started = (SystemTime::now(), Instant::now());
        let (background, exits) = Background::with_metrics(metrics.reloads);
        let authorities = authorities.start(&background);
        let pool = CredentialPool::start(
            credentials.into_iter().zip(loaded_credentials).collect(),
            &upstream,
            &authorities,
            &proxy,
            &background,
        );
        let credentials = Arc::clone(&pool.credentials);

        metrics.credentials.read_with({
            let credentials = Arc::clone(&credentials);
            move || credentials.active().iter().map(credentials::reading).collect()
        });

        let quota = Quota::new(quota, metrics.quota.clone());
        let store = quota_shared
            .zip(quota_store)
            .map(|(config, loaded)| SharedStore::start(config, loaded, metrics.quota.clone(), &background));
        let quota = Arc::new(match store {
            Some(store) => {
                let quota = quota.shared_through(store);
                // The other replicas count this one from its start on, and not only from its first query.
                for credential in credentials.active().iter() {
                    let _ = quota.budget(credential.project().as_ref());
                }
                quota
            }
            None => quota,
        });
        metrics.quota.read_with({
            let quota = Arc::clone(&quota);
            move || quota.readings()
        });

        let base = upstream.url.url().clone();
        let (shared, timeout) = (Arc::clone(&credentials), upstream.timeout);
        let amapi =
            Amapi::new(base, &authorities, &proxy, shared, timeout, &metrics.upstream, Arc::clone(&quota))?;
        let in_flight = TaskTracker::new();
        let (serving, state) = watch::channel(Serving::NotReady);
        let policy = Policy::start(policy, metrics.policy, &background);
        let times = times(upstream.timeout, &polling);
        let guard = Arc::new(Guard::new(guard, metrics.operations.guard_triggered.clone()));
        let operations = Operations::new(
            policy.clone(),
            amapi,
            times,
            state.clone(),
            in_flight.clone(),
            Arc::clone(&guard),
            &metrics.operations,
        );
        let issuer = jwt.as_ref().zip(keys);
        let identities = Arc::new(Identities::new(&callers, issuer, &background)?);
        let drain = Arc::new(DrainTimes::new(server.drain_delay, server.drain_timeout));
        let audit = Audit::start(&audit, metrics.audit, &background)?;
        let traces = traces.map(Traces::start);
        let tracer = traces.as_ref().map(Traces::tracer);
        let call_metrics = Arc::clone(&metrics.calls);
        let calls = Calls::new(&limits, upstream.timeout, audit.clone(), call_metrics, tracer, in_flight);
        let max_request_bytes = limits.max_request_bytes;
        let router =
            Router::new(operations, Arc::clone(&calls), identities, max_request_bytes, state.clone());
        let connections = metrics.connections;
        let server =
            Server::bind(&server, &limits, tls, router, connections.clone(), &background, &mut passed)
                .await?;
        metrics.process.ready.read_value_with({
            let state = state.clone();
            move || f64::from(u8::from(*state.borrow() == Serving::Ready))
        });
        let admin_port = bind(admin.listen, &mut passed).await?;
        let telemetry_port = bind(telemetry.listen, &mut passed).await?;
        passed.finish().map_err(StartError::PassedSocket)?;
        let reloader = Reloader::new(ReloadTargets {
            policy,
            guard,
            credentials: pool,
            calls: Arc::clone(&calls),
            drain: Arc::clone(&drain),
            quota,
            reloads: Mutex::new(background.reloads(ReloadKind::Configuration)),
            background: background.clone(),
            effective: Mutex::new(effective),
        });
        let quit = admin.quit.then(Arc::<Notify>::default);
        let pages = Pages::new(Arc::clone(&credentials), state, Arc::new(registry));
        let operator = Operator {
            started,
            listeners: listeners(&server, admin_port.as_ref(), telemetry_port.as_ref()),
            configuration: Box::new({
                let reloader = reloader.clone();
                move || reloader.effective()
            }),
            calls: metrics.calls,
            upstream: metrics.upstream,
            quota: metrics.quota,
            operations: metrics.operations,
            connections,
            quit: quit.clone(),
        };
        Ok(Self {
            server,
            admin: admin_port.map(|port| (port, pages.clone().with_operator(operator))),
            telemetry: telemetry_port.map(|port| (port, pages)),
            quit,
            credentials,
            serving,
            calls,
            audit,
            traces,
            background,
            exits,
            drain,
            reloader,
        })
    }

    /// Lets the admin port change the filter of the log.
    #[must_use]
    pub fn with_log_levels(mut self, levels: LogLevels) -> Self {
        if let Some((_, pages)) = &mut self.admin {
            pages.set_log_levels(levels);
        }
        self
    }

    /// Applies changed configurations.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// The addresses of the gRPC listeners.
    #[must_use]
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.server.addresses()
    }

    /// The address of the admin port.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(port, _)| port.address())
    }

    /// The address of the telemetry listener.
    #[must_use]
    pub fn telemetry_address(&self) -> Option<SocketAddr> {
        self.telemetry.as_ref().map(|(port, _)| port.address())
    }

    /// Waits for a request to `/quitquitquit`. Never returns if `admin.quit` is off.
    pub fn quit_requested(&self) -> impl Future<Output = ()> + Send + use<> {
        let quit = self.quit.clone();
        async move {
            match quit {
                Some(quit) => quit.notified().await,
                None => future::pending().await,
            }
        }
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> Audit {
        self.audit.clone()
    }

    /// The serving state, which health reports.
    #[must_use]
    pub fn serving(&self) -> watch::Receiver<Serving> {
        self.serving.subscribe()
    }

    /// Serves until `stop`, then drains. Health reports NOT_SERVING, and calls are served until `server.drain_delay` has
    /// passed. Then connections are rejected after a short grace,
    /// and the calls in flight finish, including cancels whose callers have disconnected. `cut` ends the drain at
    /// once: the remaining calls are answered UNAVAILABLE, and their audit lines are written.
    ///
    /// # Errors
    ///
    /// A background task ended. The process drains in this case too, so that every cancel that was sent has its line
    /// in the audit log.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        cut: impl Future<Output = ()>,
    ) -> Result<Drained, Defect> {
        let Self {
            server,
            admin,
            telemetry,
            quit: _,
            credentials,
            serving,
            calls,
            audit,
            traces,
            background,
            mut exits,
            drain,
            reloader: _,
        } = self;
        if let Some((port, pages)) = admin {
            background.spawn("admin port", port.serve(pages));
        }
        if let Some((port, pages)) = telemetry {
            background.spawn("telemetry listener", port.serve(pages));
        }
        let (start_drain, drain_started) = oneshot::channel();
        let drain_started = async { drain_started.await.unwrap_or_default() };
        let mut server = tokio::spawn({
            let guard = background.guard("server");
            async move {
                let _guard = guard;
                server.serve(drain_started).await
            }
        });

        let mut dead = tokio::select! {
            () = stop => None,
            () = credentials::report(&credentials, &serving) => None,
            task = exits.next() => Some(task),
        };
        let mut cut = std::pin::pin!(cut);
        let (delay, drain_timeout) = drain.get();
        let mut is_cut = false;
        if dead.is_none() && !delay.is_zero() {
            tracing::info!(
                delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                "draining after a delay"
            );
            serving.send_replace(Serving::Leaving);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = &mut cut => is_cut = true,
                task = exits.next() => dead = Some(task),
            }
        }
        let margin = DRAIN_MARGIN.min(drain_timeout / 10);
        let limit = drain_timeout.saturating_sub(margin);
        let since = Instant::now();
        match dead {
            Some(task) => tracing::error!(task, "background task ended; draining"),
            None => tracing::info!("draining"),
        }
        serving.send_replace(Serving::Draining);
        // The server serves until the drain, so its receiver lives. A panic of the server is the result below.
        let _ = start_drain.send(limit);
        let cut = async {
            if !is_cut {
                cut.await;
            }
        };
        let drained = tokio::select! {
            drained = &mut server => drained.unwrap_or(Drained::TimedOut { calls: calls.in_flight().len() }),
            () = cut => Drained::Stopped { calls: calls.in_flight().len() },
        };
        // Calls that outlast the drain are answered and recorded before the audit log is flushed.
        calls.abort();
        calls.in_flight().close();
        let end = match drained {
            Drained::Stopped { .. } => (since + limit).min(Instant::now() + DRAIN_MARGIN),
            Drained::Complete | Drained::TimedOut { .. } => since + limit,
        };
        let _ = tokio::time::timeout_at(end + margin / 4, calls.in_flight().wait()).await;
        // The audit log drops a line after its end, so no call may be without its line. Thousands of calls can take
        // longer than the margin.
        calls.close().await;
        let flushed = (end + margin / 2).max(Instant::now() + margin / 4);
        let flush_traces = async {
            if let Some(traces) = traces {
                traces.end(flushed).await;
            }
        };
        let (audited, ()) = tokio::join!(tokio::time::timeout_at(flushed, audit.end()), flush_traces);
        if audited.is_err() {
            tracing::error!("drain timed out before the audit log was flushed");
        }
        send_responses(calls.in_flight(), margin / 4).await;
        match dead {
            Some(task) => Err(Defect { task }),
            None => Ok(drained),
        }
    }
}

/// Waits until the responses of the calls in flight are sent, as long as some are sent in each `pause`. Thousands of
/// responses can take longer than the margin. A task whose caller disconnected sends none.
async fn send_responses(in_flight: &TaskTracker, pause: Duration) {
    let mut before = in_flight.len();
    for _ in 0..MAX_RESPONSE_PAUSES {
        if tokio::time::timeout(pause, in_flight.wait()).await.is_ok() || in_flight.len() == before {
            break;
        }
        before = in_flight.len();
    }
}

async fn bind(address: Option<SocketAddr>, passed: &mut PassedSockets) -> io::Result<Option<HttpPort>> {
    match address {
        Some(address) => HttpPort::bind(address, passed).await.map(Some),
        None => Ok(None),
    }
}

/// The bound addresses by the names of their settings.
fn listeners(
    server: &Server,
    admin: Option<&HttpPort>,
    telemetry: Option<&HttpPort>,
) -> Vec<(&'static str, String)> {
    let server = server.addresses().into_iter().map(|address| ("server.listen", address.to_string()));
    let pages = [("admin.listen", admin), ("telemetry.listen", telemetry)];
    let pages = pages.into_iter().filter_map(|(setting, port)| Some((setting, port?.address().to_string())));
    server.chain(pages).collect()
}

fn times(upstream_timeout: Duration, polling: &Polling) -> Times {
    let Polling { min_interval, max_interval, max_wait, cache_entries, cache_max_age } = *polling;
    Times {
        upstream_timeout,
        max_wait,
        intervals: PollIntervals { min: min_interval, max: max_interval },
        limits: CacheLimits { entries: cache_entries, max_age: cache_max_age, min_interval },
    }
}

#[cfg(test)]
mod tests;
