//! A query that may be sent.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::Shared;

/// The hold after a refusal by Google without `Retry-After`. Google asks for a minute without queries.
const DEFAULT_HOLD: Duration = Duration::from_secs(60);

/// A query that may be sent. Report Google's response to it.
#[must_use]
pub struct Admitted {
    pub(super) shared: Arc<Shared>,
    pub(super) is_probe: bool,
}

impl Admitted {
    /// Google refused the query for the project's quota. `retry_after` is its `Retry-After`.
    pub fn refused_by_google(self, retry_after: Option<Duration>) {
        self.shared.google_refusals.fetch_add(1, Relaxed);
        let mut line = self.shared.lock();
        if line.settings.is_none() || !line.limiter.refused(retry_after.unwrap_or(DEFAULT_HOLD)) {
            return;
        }
        line.is_held = true;
        let ((_, rate), hold, is_shadow) = (line.limiter.rates(), line.limiter.hold(), line.is_shadow());
        drop(line);
        let project = &*self.shared.project;
        if is_shadow {
            tracing::warn!(project, rate, ?hold, "Google refused a query for the project's quota");
        } else {
            tracing::warn!(
                project,
                rate,
                ?hold,
                "Google refused a query for the project's quota: gets, lists and polls are held"
            );
        }
    }

    /// Google answered the query, with a result or with another error.
    pub fn answered(self) {
        if self.is_probe {
            let mut line = self.shared.lock();
            line.limiter.probe_answered();
            line.log_end_of_hold(&self.shared.project);
            drop(line);
            self.shared.changed.notify_one();
        }
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("is_probe", &self.is_probe).finish_non_exhaustive()
    }
}
