//! Lets only one request connect while no connection is established.
//!
//! The TLS handshake negotiates HTTP/2. Before its end, reqwest's pool opens a connection for each request. A burst
//! of requests at the start would make as many handshakes, and use one connection. Therefore the first request
//! connects, and the others wait for its response.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// The maximum wait for the first request. A connection is usually established earlier, and one slow response must
/// not delay the other requests.
const CONNECT_GATE_TIMEOUT: Duration = Duration::from_millis(200);

/// Lets one request through while it is closed. A response opens the gate, and the loss of a connection closes it.
#[derive(Debug)]
pub(super) struct ConnectGate {
    is_open: AtomicBool,
    first: Semaphore,
}

impl ConnectGate {
    pub(super) fn new() -> Self {
        Self { is_open: AtomicBool::new(false), first: Semaphore::new(1) }
    }

    /// Waits for the gate. The first request gets a permit, which it must hold until it has its response.
    pub(super) async fn pass(&self) -> Option<SemaphorePermit<'_>> {
        if self.is_open.load(Ordering::Relaxed) {
            return None;
        }
        let permit = Box::pin(timeout(CONNECT_GATE_TIMEOUT, self.first.acquire())).await;
        // The semaphore is never closed.
        permit.ok()?.ok().filter(|_| !self.is_open.load(Ordering::Relaxed))
    }

    /// Opens the gate, because a response arrived.
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// Closes the gate, because a connection was lost or could not be established.
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
    async fn other_requests_wait_for_the_response_of_the_first() {
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
        assert!(!other.await.expect("no panic"), "a request that waited gets no permit");
        assert_eq!(start.elapsed(), CONNECT_GATE_TIMEOUT / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_request_delays_the_others_until_the_timeout() {
        let (start, gate) = (Instant::now(), ConnectGate::new());
        let _first = gate.pass().await;
        assert!(gate.pass().await.is_none());
        assert_eq!(start.elapsed(), CONNECT_GATE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_loss_of_a_connection_one_request_gets_the_permit() {
        let gate = ConnectGate::new();
        gate.open();
        assert!(gate.pass().await.is_none());
        gate.close();
        assert!(gate.pass().await.is_some());
        assert_eq!(Instant::now().elapsed(), Duration::ZERO);
    }
}
