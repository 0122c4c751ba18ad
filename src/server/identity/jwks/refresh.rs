//! The background task that keeps an issuer's keys fresh.

use std::{future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{Algorithm, FetchError, KeySet};
use crate::file_watch::FileWatch;

/// How often the keys are fetched anew without being asked for: a key that its issuer withdrew is believed
/// for no longer than this.
const REFRESH_EVERY: Duration = Duration::from_secs(300);

/// The bound on one fetch, and so on the time that a caller waits for it.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Unknown keys do not cause a fetch sooner than this after the last: anybody can make up their names.
const PAUSE: Duration = Duration::from_secs(5);

/// The pauses after failures: the first, and what it grows to by doubling.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(30);

/// Where key sets are fetched from. It is asked by one task only.
pub(crate) trait Source: Send + Sync + 'static {
    /// Fetches the set's JSON, never from a cache.
    fn fetch(&self) -> impl Future<Output = Result<Vec<u8>, FetchError>> + Send;
}

/// The keys in use. A set stays in use while no newer one can be had.
pub(crate) struct Keys {
    state: watch::Receiver<State>,
    /// Asks for a fetch; a file is watched instead.
    wanted: Option<mpsc::Sender<()>>,
}

/// What is known of an issuer's keys.
#[derive(Clone)]
struct State {
    current: Current,
    /// How many fetches have ended, the last of them when.
    fetches: u64,
    ended: Instant,
    /// When the next attempt is due, while the latest has failed.
    failing: Option<Instant>,
}

/// A key set, and a number that grows with each other set that takes its place.
#[derive(Clone, Default)]
pub(crate) struct Current {
    pub(crate) keys: Option<Arc<KeySet>>,
    pub(crate) generation: u64,
}

/// What can be done about a key that is not in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// [`Keys::renewed`] waits for a fetch that may bring it.
    Worthwhile,
    /// Nothing: the set was fetched moments ago.
    Useless,
    /// The latest fetch failed, so it is not known whether there is such a key.
    Failing {
        /// The time until the next attempt.
        retry_after: Duration,
    },
}

impl Keys {
    /// Keys of `source`, fetched from now on by the task whose future this answers. It ends when the keys
    /// are dropped, and not before.
    pub(crate) fn fetched(
        source: impl Source,
        allowed: Vec<Algorithm>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (publish, state) = watch::channel(State::new(None));
        let (wanted, asked) = mpsc::channel(1);
        (Self { state, wanted: Some(wanted) }, run(source, allowed, publish, asked))
    }

    /// The keys of `file`, and those that it changes to, taken up by the task whose future this answers. It
    /// ends as above.
    ///
    /// # Errors
    ///
    /// The file cannot be read or holds no key; the text names it.
    pub(crate) fn of_file(
        file: PathBuf,
        allowed: Vec<Algorithm>,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send)> {
        let named = |kind, text: String| io::Error::new(kind, format!("{}: {text}", file.display()));
        let (watch, json) = FileWatch::open(&file).map_err(|error| named(error.kind(), error.to_string()))?;
        let first = KeySet::parse(&json, &allowed)
            .map_err(|error| named(io::ErrorKind::InvalidData, error.to_string()))?;
        let (publish, state) = watch::channel(State::new(Some(first)));
        Ok((Self { state, wanted: None }, follow(file, watch, allowed, publish)))
    }

    /// The keys to verify with now.
    pub(crate) fn current(&self) -> Current {
        self.state.borrow().current.clone()
    }

    /// The number of the keys to verify with now.
    pub(crate) fn generation(&self) -> u64 {
        self.state.borrow().current.generation
    }

    /// Whether a fetch may bring a key that the current set does not have.
    pub(crate) fn renewal(&self) -> Renewal {
        let state = self.state.borrow();
        let due = state.failing.map(|next| next.saturating_duration_since(Instant::now()));
        match due {
            // An attempt that is due is under way.
            Some(retry_after) if !retry_after.is_zero() => Renewal::Failing { retry_after },
            Some(_) => Renewal::Worthwhile,
            None if self.wanted.is_none() => Renewal::Useless,
            None if state.fetches > 0 && state.ended.elapsed() < PAUSE => Renewal::Useless,
            None => Renewal::Worthwhile,
        }
    }

    /// Waits for the end of the next fetch, which all who wait share. At the latest it comes when the bound
    /// on a fetch is over, whatever became of it.
    pub(crate) fn renewed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.state.clone();
        let before = state.borrow_and_update().fetches;
        if let Some(wanted) = &self.wanted {
            // A full channel holds the same wish.
            let _ = wanted.try_send(());
        }
        async move {
            // Without the task there is nothing to wait for; the app ends with it.
            let _ = state.wait_for(|state| state.fetches > before).await;
        }
    }
}

async fn run(
    source: impl Source,
    allowed: Vec<Algorithm>,
    publish: watch::Sender<State>,
    mut asked: mpsc::Receiver<()>,
) {
    let mut failures = 0;
    let mut ever = false;
    loop {
        let fetched = timeout(FETCH_TIMEOUT, source.fetch()).await.unwrap_or(Err(FetchError::Late));
        let pause = match fetched.and_then(|json| Ok(KeySet::parse(&json, &allowed)?)) {
            Ok(keys) => {
                if failures > 0 || !ever {
                    tracing::info!(keys = keys.len(), "the keys that tokens are verified with were fetched");
                }
                (failures, ever) = (0, true);
                publish.send_modify(|state| state.hold(keys));
                REFRESH_EVERY.mul_f64(1.0 - fastrand::f64() / 10.0)
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(
                        %error, in_use = ever,
                        "the keys that tokens are verified with cannot be fetched: trying on"
                    );
                }
                failures += 1;
                let pause = backoff(failures, fastrand::f64());
                publish.send_modify(|state| state.fail(pause));
                pause
            }
        };
        // Whoever asked before the fetch ended has its answer.
        while asked.try_recv().is_ok() {}
        tokio::select! {
            () = sleep(pause) => {}
            wish = asked.recv() => if wish.is_none() { return },
        }
    }
}

/// Takes up the keys of `file` when they change; a broken set is reported, and the old one stays.
async fn follow(file: PathBuf, mut watch: FileWatch, allowed: Vec<Algorithm>, publish: watch::Sender<State>) {
    loop {
        let content = tokio::select! {
            content = watch.changed() => content,
            () = publish.closed() => return,
        };
        match KeySet::parse(&content, &allowed) {
            Ok(keys) => {
                tracing::info!(
                    file = %file.display(), keys = keys.len(),
                    "the keys that tokens are verified with changed: taken up"
                );
                publish.send_modify(|state| state.hold(keys));
            }
            Err(error) => tracing::warn!(
                file = %file.display(), %error,
                "the keys that tokens are verified with changed and are broken: the old ones stay in use"
            ),
        }
    }
}

/// The pause after this many failures in a row, up to a fifth shorter by `jitter` (0 to 1).
fn backoff(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << (failures - 1).min(16));
    doubled.min(LAST_BACKOFF).mul_f64(1.0 - jitter / 5.0)
}

impl State {
    fn new(keys: Option<KeySet>) -> Self {
        let current = Current { keys: keys.map(Arc::new), generation: 0 };
        Self { current, fetches: 0, ended: Instant::now(), failing: None }
    }

    fn hold(&mut self, keys: KeySet) {
        if self.current.keys.as_ref().is_none_or(|old| !old.is(&keys)) {
            self.current = Current { keys: Some(Arc::new(keys)), generation: self.current.generation + 1 };
        }
        self.end(None);
    }

    fn fail(&mut self, pause: Duration) {
        self.end(Some(Instant::now() + pause));
    }

    fn end(&mut self, failing: Option<Instant>) {
        self.fetches += 1;
        self.ended = Instant::now();
        self.failing = failing;
    }
}

#[cfg(test)]
mod tests;
