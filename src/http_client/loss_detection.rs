//! Detects a connection that was lost without a sign, for example because a NAT dropped its flow. Packets vanish, and
//! neither side closes the connection.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use http::Version;
use reqwest::ClientBuilder;
use tokio::time::Instant;

/// The bounds of the time within which a lost connection is detected. Less would take a slow network for a lost one.
const MIN_DETECTION: Duration = Duration::from_secs(1);
const MAX_DETECTION: Duration = Duration::from_secs(10);

/// The idle time after which TCP probes a connection, and the time between two probes. The probes of an idle
/// connection keep its flow in a NAT, and cost the peer less than PINGs.
///
/// On Linux, one unanswered probe closes the connection: `TCP_USER_TIMEOUT` replaces the number of probes (tcp(7)), and
/// it is shorter than the idle time.
const TCP_PROBE_AFTER: Duration = Duration::from_secs(30);
const TCP_PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// The times of the probes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LossDetection {
    /// The time without a frame after which an HTTP/2 connection with requests in flight gets a PING.
    ping_after: Duration,
    /// The time after which a connection without a reply to its PING is closed.
    ping_timeout: Duration,
    /// The time after which a connection is closed whose peer acknowledges no data.
    tcp_user_timeout: Duration,
}

impl Default for LossDetection {
    fn default() -> Self {
        Self::within(MAX_DETECTION)
    }
}

impl LossDetection {
    /// Detects a loss within a third of `timeout`, so that another attempt has the rest.
    pub(super) fn for_requests_of(timeout: Duration) -> Self {
        Self::within((timeout / 3).clamp(MIN_DETECTION, MAX_DETECTION))
    }

    fn within(time: Duration) -> Self {
        let ping_timeout = time / 3;
        Self { ping_after: time - ping_timeout, ping_timeout, tcp_user_timeout: time }
    }

    /// Adds the times to `builder`.
    pub(super) fn apply(self, builder: ClientBuilder) -> ClientBuilder {
        let builder = builder
            .http2_keep_alive_interval(self.ping_after)
            .http2_keep_alive_timeout(self.ping_timeout)
            .http2_keep_alive_while_idle(false)
            .tcp_keepalive(TCP_PROBE_AFTER)
            .tcp_keepalive_interval(TCP_PROBE_INTERVAL);
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        let builder = builder.tcp_user_timeout(self.tcp_user_timeout);
        builder
    }
}

/// The responses on the connections of a pool.
#[derive(Debug)]
pub(super) struct Responses {
    created: Instant,
    /// The time of the latest response, in nanoseconds from the creation; 0 for none.
    latest: AtomicU64,
    /// Whether the latest response was HTTP/2.
    is_http2: AtomicBool,
}

impl Responses {
    pub(super) fn new() -> Self {
        Self { created: Instant::now(), latest: AtomicU64::new(0), is_http2: AtomicBool::new(false) }
    }

    /// Records a response.
    pub(super) fn record(&self, version: Version) {
        let time = u64::try_from(self.created.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.latest.store(time, Relaxed);
        self.is_http2.store(version == Version::HTTP_2, Relaxed);
    }

    /// See [`super::Pool::is_silent_since`].
    pub(super) fn are_missing_since(&self, sent: Instant) -> bool {
        let is_alive = self.is_http2.load(Relaxed) && self.has_any_since(sent);
        self.latest.load(Relaxed) > 0 && !is_alive
    }

    /// Whether a response of any HTTP version arrived since `sent`.
    pub(super) fn has_any_since(&self, sent: Instant) -> bool {
        let latest = self.latest.load(Relaxed);
        latest > 0 && self.created + Duration::from_nanos(latest) >= sent
    }
}

#[cfg(test)]
mod tests {
    use http::Version;
    use tokio::time::{Duration, Instant, advance};

    use super::{LossDetection, Responses};

    #[test]
    fn a_loss_is_detected_within_a_third_of_the_timeout() {
        for (timeout, detection) in [(30, 10_000), (6, 2000), (1, 1000), (3600, 10_000)] {
            let LossDetection { ping_after, ping_timeout, tcp_user_timeout } =
                LossDetection::for_requests_of(Duration::from_secs(timeout));
            let detection = Duration::from_millis(detection);
            assert_eq!((ping_after + ping_timeout, tcp_user_timeout), (detection, detection));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_shows_that_an_http_2_connection_is_alive() {
        let second = Duration::from_secs(1);
        for (version, is_silent) in [(Version::HTTP_2, false), (Version::HTTP_11, true)] {
            let responses = Responses::new();
            advance(second).await;
            assert!(!responses.are_missing_since(Instant::now()), "the first request may be slow");
            responses.record(version);
            advance(second).await;
            let sent = Instant::now();
            assert!(responses.are_missing_since(sent) && !responses.has_any_since(sent));
            advance(second).await;
            responses.record(version);
            assert_eq!(responses.are_missing_since(sent), is_silent, "{version:?}");
            assert!(responses.has_any_since(sent), "{version:?}");
        }
    }
}
