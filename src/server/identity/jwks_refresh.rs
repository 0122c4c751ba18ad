//! The active keys of the issuer, and the background task that refreshes them.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::jwks::{Algorithm, FETCH_TIMEOUT, JwksFetchError, KeyFile, KeySet, KeySource};
use crate::{
    background::Background,
    file_watch::FileWatch,
    telemetry::metrics::{ReloadCounter, ReloadKind},
};

/// The interval between two fetches, and therefore the maximum time for which a withdrawn key is accepted.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// The minimum time between a fetch and another one for an unknown key, because clients can invent key IDs.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(5);

/// The pause after the first failure. It doubles with each further failure, up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The name with which the exit of the task is reported.
const TASK: &str = "token key refresh";

/// The issuer's keys. A set stays active until a newer one is fetched. The drop aborts the task that refreshes the
/// keys.
pub(super) struct IssuerKeys {
    state: watch::Receiver<KeyState>,
    /// Requests a fetch; `None` for a file, which is watched instead.
    requests: Option<mpsc::Sender<()>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone)]
struct KeyState {
    current: CurrentKeys,
    /// The number of fetches that have ended.
    fetches: u64,
    /// The end of the last fetch.
    last_fetch: Instant,
    /// The time of the next attempt, if the last fetch failed.
    next_attempt: Option<Instant>,
}

/// A key set, and a number that grows whenever another set replaces it.
#[derive(Debug, Clone, Default)]
pub(super) struct CurrentKeys {
    /// `None` before the first successful fetch.
    pub(super) keys: Option<Arc<KeySet>>,
    pub(super) generation: u64,
}

/// Whether a fetch may return a key that is not in the current set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// A fetch may return the key. [`IssuerKeys::renewed`] waits for it.
    Worthwhile,
    /// The set was fetched recently.
    Useless,
    /// The last fetch failed.
    Failing {
        /// The time until the next attempt.
        retry_after: Duration,
    },
}

impl IssuerKeys {
    /// The keys of `source`. The first fetch starts immediately.
    pub(super) fn fetched(source: impl KeySource, allowed: Vec<Algorithm>, background: &Background) -> Self {
        let (publish, state) = watch::channel(KeyState::new(None));
        let (requests, requested) = mpsc::channel(1);
        let task = background
            .spawn(TASK, refresh(source, allowed, publish, requested, background.reloads(ReloadKind::Jwks)));
        Self { state, requests: Some(requests), _task: AbortOnDropHandle::new(task) }
    }

    /// The keys of a file, reloaded when it changes.
    pub(super) fn of_file(file: KeyFile, allowed: Vec<Algorithm>, background: &Background) -> Self {
        let KeyFile { path, watch, keys } = file;
        let (publish, state) = watch::channel(KeyState::new(Some(keys)));
        let reloads = background.reloads(ReloadKind::Jwks);
        let task = background.spawn(TASK, reload(path, watch, allowed, publish, reloads));
        Self { state, requests: None, _task: AbortOnDropHandle::new(task) }
    }

    /// The current keys.
    pub(super) fn current(&self) -> CurrentKeys {
        self.state.borrow().current.clone()
    }

    /// The generation of the current keys.
    pub(super) fn generation(&self) -> u64 {
        self.state.borrow().current.generation
    }

    /// Whether a fetch may return a key that is not in the current set.
    pub(super) fn renewal(&self) -> Renewal {
        let state = self.state.borrow();
        let wait = state.next_attempt.map(|next| next.saturating_duration_since(Instant::now()));
        match wait {
            Some(retry_after) if !retry_after.is_zero() => Renewal::Failing { retry_after },
            // The next attempt is in progress.
            Some(_) => Renewal::Worthwhile,
            None if self.requests.is_none() => Renewal::Useless,
            None if state.fetches > 0 && state.last_fetch.elapsed() < MIN_FETCH_INTERVAL => Renewal::Useless,
            None => Renewal::Worthwhile,
        }
    }

    /// Requests a fetch and waits for its end, at most [`FETCH_TIMEOUT`]. All waiters share one fetch.
    pub(super) fn renewed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.state.clone();
        let before = state.borrow_and_update().fetches;
        if let Some(requests) = &self.requests {
            // A full channel already has a request.
            let _ = requests.try_send(());
        }
        async move {
            // An error means that the task has exited, so the process is ending.
            let _ = state.wait_for(|state| state.fetches > before).await;
        }
    }
}

/// Fetches the keys at [`REFRESH_INTERVAL`] and when requested.
async fn refresh(
    source: impl KeySource,
    allowed: Vec<Algorithm>,
    publish: watch::Sender<KeyState>,
    mut requested: mpsc::Receiver<()>,
    mut reloads: ReloadCounter,
) {
    let mut failures = 0;
    let mut has_keys = false;
    loop {
        let fetched = timeout(FETCH_TIMEOUT, source.fetch()).await.unwrap_or(Err(JwksFetchError::TimedOut));
        let pause = match fetched.and_then(|json| Ok(KeySet::parse(&json, &allowed)?)) {
            Ok(keys) => {
                if failures > 0 || !has_keys {
                    tracing::info!(keys = keys.len(), "fetched the token keys");
                }
                (failures, has_keys) = (0, true);
                publish.send_modify(|state| state.replace(keys));
                reloads.succeeded();
                REFRESH_INTERVAL.mul_f64(1.0 - fastrand::f64() / 10.0)
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(
                        %error, has_keys,
                        "failed to fetch the token keys: retrying"
                    );
                }
                failures += 1;
                reloads.failed();
                let pause = backoff(failures, fastrand::f64());
                publish.send_modify(|state| state.end_fetch(Some(Instant::now() + pause)));
                pause
            }
        };
        // The fetch has served the requests that arrived before its end.
        while requested.try_recv().is_ok() {}
        tokio::select! {
            () = sleep(pause) => {}
            // `None` means that the keys were dropped. This task will be aborted.
            Some(()) = requested.recv() => {}
        }
    }
}

/// Reloads the keys of `file` when it changes. An invalid set is logged, and the old one stays active.
async fn reload(
    file: PathBuf,
    mut watch: FileWatch,
    allowed: Vec<Algorithm>,
    publish: watch::Sender<KeyState>,
    mut reloads: ReloadCounter,
) {
    loop {
        let content = watch.changed().await;
        match KeySet::parse(&content, &allowed) {
            Ok(keys) => {
                tracing::info!(
                    file = %file.display(), keys = keys.len(),
                    "reloaded the token keys"
                );
                publish.send_modify(|state| state.replace(keys));
                reloads.succeeded();
            }
            Err(error) => {
                reloads.failed();
                tracing::warn!(
                    file = %file.display(), %error,
                    "failed to reload the token keys: the old ones stay active"
                );
            }
        }
    }
}

/// The pause after this many failures in a row, up to a fifth shorter by `jitter` (0 to 1).
fn backoff(failures: u32, jitter: f64) -> Duration {
    let doubled = MIN_BACKOFF.saturating_mul(1 << (failures - 1).min(16));
    doubled.min(MAX_BACKOFF).mul_f64(1.0 - jitter / 5.0)
}

impl KeyState {
    fn new(keys: Option<KeySet>) -> Self {
        let current = CurrentKeys { keys: keys.map(Arc::new), generation: 0 };
        Self { current, fetches: 0, last_fetch: Instant::now(), next_attempt: None }
    }

    fn replace(&mut self, keys: KeySet) {
        if self.current.keys.as_ref().is_none_or(|old| !old.is_same(&keys)) {
            let generation = self.current.generation + 1;
            self.current = CurrentKeys { keys: Some(Arc::new(keys)), generation };
        }
        self.end_fetch(None);
    }

    fn end_fetch(&mut self, next_attempt: Option<Instant>) {
        self.fetches += 1;
        self.last_fetch = Instant::now();
        self.next_attempt = next_attempt;
    }
}

#[cfg(test)]
mod tests;
