//! Metrics of the Google credentials, whose values the credentials keep.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::MetricType::{Counter, Gauge};

use super::{
    observed::Observed,
    registry::{Label, Registry},
};

/// The metrics of all credentials.
#[derive(Debug)]
pub struct CredentialMetrics {
    fetched: Observed<1>,
    expiry: Observed<1>,
    refreshes: Observed<2>,
    usable: Observed<1>,
}

/// The values of one credential.
#[derive(Debug, Clone)]
pub struct CredentialReading {
    /// The name in the configuration.
    pub name: String,
    /// The times at which the latest token was fetched and at which it ends. `None` before the first token.
    pub token: Option<(SystemTime, SystemTime)>,
    /// The number of tokens that were fetched.
    pub successes: u64,
    /// The number of attempts that failed.
    pub failures: u64,
    /// Whether there is a valid token.
    pub is_usable: bool,
}

impl CredentialMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let name =
            || Label::described("credential", "the `name` of a `[[credentials]]` section, or `\"default\"`");
        Self {
            fetched: registry.observed(
                "countermand_token_fetched_timestamp_seconds",
                "The time at which the latest token was fetched, in seconds since 1970. Absent before the first token",
                Gauge,
                [name()],
            ),
            expiry: registry.observed(
                "countermand_token_expiry_timestamp_seconds",
                "The end of the latest token, in seconds since 1970. Absent before the first token",
                Gauge,
                [name()],
            ),
            refreshes: registry.observed(
                "countermand_token_refreshes_total",
                "The attempts to fetch a token",
                Counter,
                [name(), Label::one_of("outcome", &["success", "failure"])],
            ),
            usable: registry.observed(
                "countermand_credential_usable",
                "1 while the credential has a valid token, otherwise 0",
                Gauge,
                [name()],
            ),
        }
    }

    /// Sets the function that reads the credentials, whenever the metrics are written.
    pub fn read_with(&self, read: impl Fn() -> Vec<CredentialReading> + Clone + Send + Sync + 'static) {
        let token_times = |of: fn((SystemTime, SystemTime)) -> SystemTime| {
            let read = read.clone();
            move || {
                let times = read().into_iter().filter_map(|reading| Some((reading.name, reading.token?)));
                times.map(|(name, token)| ([name], unix_seconds(of(token)))).collect()
            }
        };
        self.fetched.read_with(token_times(|(fetched, _)| fetched));
        self.expiry.read_with(token_times(|(_, expiry)| expiry));
        self.usable.read_with({
            let read = read.clone();
            move || {
                read()
                    .into_iter()
                    .map(|reading| ([reading.name], f64::from(u8::from(reading.is_usable))))
                    .collect()
            }
        });
        self.refreshes.read_with(move || {
            let counts =
                read().into_iter().flat_map(|CredentialReading { name, successes, failures, .. }| {
                    [
                        ([name.clone(), "success".to_owned()], successes),
                        ([name, "failure".to_owned()], failures),
                    ]
                });
            counts.map(|(labels, count)| (labels, count as f64)).collect()
        });
    }
}

/// A time in seconds since 1970.
fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
