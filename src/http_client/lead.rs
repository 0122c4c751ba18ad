//! One request leads while no connection is known to stand.
//!
//! Whether a server speaks HTTP/2 shows in the TLS handshake, and until then the pool lets every request
//! that finds it empty make a connection of its own: a burst at the start, or after a connection was lost,
//! would be as many handshakes, of which all but one are thrown away. So the first goes ahead, and the others
//! follow when it has met the upstream.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::failure::Progress;

/// How long the others wait for the one that leads. A connection stands by then; that the upstream takes its
/// time over one request must not hold up the rest.
const PATIENCE: Duration = Duration::from_millis(200);

/// Who goes first.
#[derive(Debug)]
pub(super) struct Lead {
    stands: AtomicBool,
    place: Semaphore,
}

impl Lead {
    pub(super) fn new() -> Self {
        Self { stands: AtomicBool::new(false), place: Semaphore::new(1) }
    }

    /// Lets a request pass: at once while a connection stands. Who gets a place leads, for as long as it is
    /// held.
    pub(super) async fn pass(&self) -> Option<SemaphorePermit<'_>> {
        if self.stands.load(Ordering::Relaxed) {
            return None;
        }
        let place = Box::pin(timeout(PATIENCE, self.place.acquire())).await;
        // The semaphore is never closed.
        place.ok()?.ok().filter(|_| !self.stands.load(Ordering::Relaxed))
    }

    /// An answer came: a connection stands.
    pub(super) fn answered(&self) {
        self.stands.store(true, Ordering::Relaxed);
    }

    /// A request got no answer: its connection may be gone.
    pub(super) fn failed(&self, progress: Progress) {
        if progress != Progress::NotHttp {
            self.stands.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::{Instant, sleep};

    use super::{Lead, PATIENCE};
    use crate::http_client::Progress;

    #[tokio::test(start_paused = true)]
    async fn the_others_follow_when_the_first_has_met_the_upstream() {
        let (start, lead) = (Instant::now(), Arc::new(Lead::new()));
        let first = lead.pass().await;
        assert!(first.is_some());
        let other = tokio::spawn({
            let lead = Arc::clone(&lead);
            async move { lead.pass().await.is_some() }
        });
        sleep(PATIENCE / 2).await;
        assert!(!other.is_finished());
        lead.answered();
        drop(first);
        assert!(!other.await.expect("no panic"), "one that follows does not lead");
        assert_eq!(start.elapsed(), PATIENCE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_its_time_holds_nobody_up_for_long() {
        let (start, lead) = (Instant::now(), Lead::new());
        let _first = lead.pass().await;
        assert!(lead.pass().await.is_none());
        assert_eq!(start.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_loss_one_leads_again() {
        let lead = Lead::new();
        lead.answered();
        assert!(lead.pass().await.is_none());
        lead.failed(Progress::NotProcessed);
        assert!(lead.pass().await.is_some());
        assert_eq!(Instant::now().elapsed(), Duration::ZERO);
    }
}
