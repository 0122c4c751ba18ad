//! The active pool of an HTTP client, and its replacement.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use tokio::time::Instant;

use super::{LossDetection, Pool, Tunnel, tls::TlsError};

/// The pools of one HTTP client.
#[derive(Debug)]
pub(super) struct Pools {
    tunnel: Option<Tunnel>,
    detection: LossDetection,
    active: ArcSwap<Pool>,
    /// A pool that may replace a silent one. It lives as long as requests use it.
    candidate: Mutex<Candidate>,
}

#[derive(Debug, Default)]
struct Candidate {
    /// The pool that the candidate may replace. It has the same roots.
    silent: Weak<Pool>,
    pool: Weak<Pool>,
}

impl Pools {
    pub(super) fn new(
        tunnel: Option<Tunnel>,
        detection: LossDetection,
        roots: Arc<RootCertStore>,
    ) -> Result<Self, TlsError> {
        let active = ArcSwap::from_pointee(Pool::new(tunnel.as_ref(), detection, roots)?);
        Ok(Self { tunnel, detection, active, candidate: Mutex::default() })
    }

    /// The pool of new requests.
    pub(super) fn active(&self) -> Arc<Pool> {
        self.active.load_full()
    }

    /// Makes a new pool with these roots active.
    pub(super) fn trust(&self, roots: Arc<RootCertStore>) -> Result<(), TlsError> {
        self.active.store(Arc::new(Pool::new(self.tunnel.as_ref(), self.detection, roots)?));
        Ok(())
    }

    /// See [`super::HttpClient::replacement`].
    pub(super) fn replacement(&self, silent: &Arc<Pool>) -> Result<Arc<Pool>, TlsError> {
        // A panic cannot leave the candidate in an inconsistent state.
        let mut candidate = self.candidate.lock().unwrap_or_else(PoisonError::into_inner);
        let active = self.active();
        if !Arc::ptr_eq(&active, silent) {
            return Ok(active);
        }
        if let Some(pool) = candidate.pool.upgrade()
            && std::ptr::eq(candidate.silent.as_ptr(), Arc::as_ptr(silent))
        {
            return Ok(pool);
        }
        let pool = Arc::new(Pool::new(self.tunnel.as_ref(), self.detection, Arc::clone(&silent.roots))?);
        *candidate = Candidate { silent: Arc::downgrade(silent), pool: Arc::downgrade(&pool) };
        Ok(pool)
    }

    /// See [`super::HttpClient::replace`].
    pub(super) fn replace(&self, silent: &Arc<Pool>, replacement: Arc<Pool>, sent: Instant) {
        if silent.responses.has_any_since(sent) {
            return;
        }
        let previous = self.active.compare_and_swap(silent, replacement);
        if Arc::ptr_eq(&previous, silent) {
            tracing::info!("a connection was silent, and a new one responded: it replaces the connections");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Version;
    use rustls::RootCertStore;
    use tokio::time::{Duration, Instant, advance};

    use super::{LossDetection, Pools};

    fn pools() -> Pools {
        Pools::new(None, LossDetection::default(), Arc::new(RootCertStore::empty())).unwrap()
    }

    #[test]
    fn requests_share_the_replacement_of_a_silent_pool() {
        let pools = pools();
        let silent = pools.active();
        let replacement = pools.replacement(&silent).unwrap();
        assert!(!Arc::ptr_eq(&replacement, &silent));
        assert!(Arc::ptr_eq(&replacement, &pools.replacement(&silent).unwrap()));
        assert!(Arc::ptr_eq(&pools.active(), &silent), "nothing responded yet");

        pools.replace(&silent, Arc::clone(&replacement), Instant::now());
        assert!(Arc::ptr_eq(&pools.active(), &replacement));
        assert!(Arc::ptr_eq(&replacement, &pools.replacement(&silent).unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_with_a_response_since_the_request_is_not_replaced() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let pools = pools();
            let first = pools.active();
            advance(Duration::from_secs(1)).await;
            let sent = Instant::now();
            let replacement = pools.replacement(&first).unwrap();
            advance(Duration::from_secs(1)).await;
            first.responses.record(version);
            pools.replace(&first, Arc::clone(&replacement), sent);
            assert!(Arc::ptr_eq(&pools.active(), &first), "{version:?}");

            advance(Duration::from_secs(1)).await;
            pools.replace(&first, Arc::clone(&replacement), Instant::now());
            assert!(Arc::ptr_eq(&pools.active(), &replacement), "{version:?}");
        }
    }

    #[test]
    fn a_pool_with_old_roots_does_not_replace_a_pool_with_reloaded_roots() {
        let pools = pools();
        let silent = pools.active();
        let old = pools.replacement(&silent).unwrap();
        let roots = Arc::new(RootCertStore::empty());
        pools.trust(Arc::clone(&roots)).unwrap();
        let reloaded = pools.active();
        pools.replace(&silent, Arc::clone(&old), Instant::now());
        assert!(Arc::ptr_eq(&pools.active(), &reloaded));
        let replacement = pools.replacement(&reloaded).unwrap();
        assert!(!Arc::ptr_eq(&replacement, &old));
        assert!(Arc::ptr_eq(&replacement.roots, &roots));
    }
}
