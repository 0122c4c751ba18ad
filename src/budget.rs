//! The time that a call may take: one budget covers queueing, the token, retries and the call itself. It also
//! knows what was sent within it, for those who stop waiting before it is known what came of that.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};

/// The budget of one upstream call, which several callers may share.
///
/// Two ends: work may be *begun* (queueing, a token, an attempt, a retry) until the last deadline of those
/// who asked for the call; what was *sent* is waited for until the upstream's own timeout, since a cancel
/// on its way to Google takes effect whether or not somebody still waits for the answer, and its true
/// outcome is to be recorded.
#[derive(Debug)]
pub struct Budget {
    started: Instant,
    /// The last deadline, in nanoseconds from the start.
    begin_for: AtomicU64,
    extended: Notify,
    upstream_timeout: Duration,
    attempts: AtomicU32,
    credential: OnceLock<Arc<str>>,
    outlasts: AtomicBool,
}

/// What was sent within a budget so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// How many times the request was sent.
    pub attempts: u32,
    /// The name of the credential that it carried; none while nothing was sent.
    pub credential: Option<Arc<str>>,
}

/// The time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over;

impl Budget {
    /// A budget that begins now, for a caller who waits until `deadline`.
    #[must_use]
    pub fn new(deadline: Instant, upstream_timeout: Duration) -> Self {
        let started = Instant::now();
        let begin_for = AtomicU64::new(nanos(deadline - started));
        Self {
            started,
            begin_for,
            extended: Notify::new(),
            upstream_timeout,
            attempts: AtomicU32::new(0),
            credential: OnceLock::new(),
            outlasts: AtomicBool::new(false),
        }
    }

    /// Another caller shares the call, and waits until `deadline`.
    pub fn extend(&self, deadline: Instant) {
        let begin_for = nanos(deadline - self.started);
        if self.begin_for.fetch_max(begin_for, Ordering::Relaxed) < begin_for {
            self.extended.notify_waiters();
        }
    }

    /// The time in which work may still be begun; zero when it is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    fn deadline(&self) -> Instant {
        self.started + Duration::from_nanos(self.begin_for.load(Ordering::Relaxed))
    }

    /// Waits for `work` that has not left this process, as long as it may still be begun.
    ///
    /// # Errors
    ///
    /// [`Over`] when every deadline has passed first; `work` is dropped.
    pub async fn begin<T>(&self, work: impl Future<Output = T>) -> Result<T, Over> {
        if self.left().is_zero() {
            return Err(Over);
        }
        let mut work = pin!(work);
        if let Poll::Ready(done) = futures_util::poll!(work.as_mut()) {
            return Ok(done);
        }
        // Most work is done at once, and should not carry the room for waiting.
        Box::pin(self.wait(work)).await
    }

    async fn wait<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Result<T, Over> {
        loop {
            let extended = self.extended.notified();
            let deadline = self.deadline();
            if deadline <= Instant::now() {
                return Err(Over);
            }
            tokio::select! {
                // The deadline first: whoever waits is told by it that nothing was sent, in the same turn.
                biased;
                () = sleep_until(deadline) => {}
                () = extended => {}
                done = work.as_mut() => return Ok(done),
            }
        }
    }

    /// Waits for the answer to what was sent.
    ///
    /// # Errors
    ///
    /// [`Over`] when the upstream's timeout has passed and nobody waits any more.
    // No async fn, whose future has room for `sent` twice: as it is given, and as it is waited for.
    pub fn carry<T>(&self, sent: impl Future<Output = T>) -> impl Future<Output = Result<T, Over>> {
        let end = (self.started + self.upstream_timeout).max(self.deadline());
        timeout_at(end, sent).map(|done| done.map_err(|_| Over))
    }

    /// The request is being sent, with this credential: for those who do not wait for what comes of it.
    pub fn sending(&self, credential: &Arc<str>) {
        self.credential.get_or_init(|| Arc::clone(credential));
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// One of those who asked was answered before it was known what came of the call.
    pub fn leave_behind(&self) {
        self.outlasts.store(true, Ordering::Relaxed);
    }

    /// Whether one of those who asked was answered before it was known what came of the call.
    #[must_use]
    pub fn outlasts_a_caller(&self) -> bool {
        self.outlasts.load(Ordering::Relaxed)
    }

    /// What was sent so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        Sent { attempts: self.attempts.load(Ordering::Relaxed), credential: self.credential.get().cloned() }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::{Instant, sleep};

    use super::{Budget, Over};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn work_is_begun_until_the_deadline_and_carried_until_the_timeout() {
        let start = Instant::now();
        let budget = Budget::new(start + SECOND, 10 * SECOND);
        assert_eq!(budget.begin(sleep(5 * SECOND)).await, Err(Over));
        assert_eq!(start.elapsed(), SECOND);
        assert_eq!(budget.left(), Duration::ZERO);
        assert_eq!(budget.begin(async {}).await, Err(Over), "nothing is begun after the deadline");
        assert_eq!(budget.carry(sleep(5 * SECOND)).await, Ok(()));
        assert_eq!(budget.carry(sleep(60 * SECOND)).await, Err(Over));
        assert_eq!(start.elapsed(), 10 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_joins_brings_more_time() {
        let start = Instant::now();
        let budget = Arc::new(Budget::new(start + SECOND, 10 * SECOND));
        let joiner = Arc::clone(&budget);
        tokio::spawn(async move {
            sleep(SECOND / 2).await;
            joiner.extend(start + 3 * SECOND);
            joiner.extend(start + 2 * SECOND);
        });
        assert_eq!(budget.begin(sleep(5 * SECOND)).await, Err(Over));
        assert_eq!(start.elapsed(), 3 * SECOND);
    }
}
