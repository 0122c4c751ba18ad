//! One request connects while no connection is known to be up.
//!
//! Whether a server speaks HTTP/2 shows in the TLS handshake. Until then the pool lets every request that finds it empty
//! open a connection of its own: a burst at the start would make as many handshakes, and throw away all but one. So
//! the first request connects, and the others follow when it has its response.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// The time for which others wait for the first request. A connection is up by then, and a slow response of one
/// request must not delay the rest.
const CONNECT_GATE_TIMEOUT: Duration = Duration::from_millis(200);

/// Lets one request through while it is closed. It opens with a response and closes with the loss of a connection.
#[derive(Debug)]
pub(super) struct ConnectGate {
    is_open: AtomicBool,
    first: Semaphore,
}

impl ConnectGate {
    pub(super) fn new() -> Self {
        Self { is_open: AtomicBool::new(false), first: Semaphore::new(1) }
    }

    /// Passes the gate: at once while it is open. The request that gets a permit is the first, as long as it holds
    /// the permit.
    pub(super) async fn pass(&self) -> Option<SemaphorePermit<'_>> {
        if self.is_open.load(Ordering::Relaxed) {
            return None;
        }
        let permit = Box::pin(timeout(CONNECT_GATE_TIMEOUT, self.first.acquire())).await;
        // The semaphore is never closed.
        permit.ok()?.ok().filter(|_| !self.is_open.load(Ordering::Relaxed))
    }

    /// A response came: a connection is up.
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// A connection was lost, or could not be made.
    pub(super) fn close(&self) {
        self.is_open.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::{Instant, sleep};

    use super::{CONNECT_GATE_TIMEOUT, ConnectGate};

    #[tokio::test(start_paused = true)]
    async fn the_others_follow_when_the_first_has_its_response() {
        let (start, gate) = (Instant::now(), Arc::new(ConnectGate::new()));
        let first = gate.pass().await;
        assert!(first.is_some());
        let other = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.pass().await.is_some() }
        });
        sleep(CONNECT_GATE_TIMEOUT / 2).await;
        assert!(!other.is_finished());
        gate.open();
        drop(first);
        assert!(!other.await.expect("no panic"), "a request that follows is not the first");
        assert_eq!(start.elapsed(), CONNECT_GATE_TIMEOUT / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_request_does_not_delay_the_others_for_long() {
        let (start, gate) = (Instant::now(), ConnectGate::new());
        let _first = gate.pass().await;
        assert!(gate.pass().await.is_none());
        assert_eq!(start.elapsed(), CONNECT_GATE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_loss_of_a_connection_one_request_is_the_first_again() {
        let gate = ConnectGate::new();
        gate.open();
        assert!(gate.pass().await.is_none());
        gate.close();
        assert!(gate.pass().await.is_some());
        assert_eq!(Instant::now().elapsed(), Duration::ZERO);
    }
}
