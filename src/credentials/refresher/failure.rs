//! What a failure makes of the state that is published.

use tokio::time::Instant;

use crate::credentials::{Failing, State, readiness};

impl State {
    /// The start of the service has waited long enough; `false` when there is no need to say so.
    pub(super) fn give_up(&mut self) -> bool {
        match self {
            Self::Held { .. } | Self::Without { given_up: true, .. } => false,
            Self::Without { given_up, .. } => {
                *given_up = true;
                true
            }
            Self::Starting => {
                let cause = format!("no token has come within {:?}", readiness::PATIENCE);
                // The first attempt is under way, so that its outcome is worth waiting for.
                let now = Instant::now();
                let failing = Failing { cause, next_attempt: now, for_good: false };
                *self = Self::Without { failing, since: now, given_up: true };
                true
            }
        }
    }

    /// Once given up, it stays so until there is a token: the start of the service is over by then.
    pub(super) fn fail(&mut self, failed: Failing, give_up: bool) {
        match self {
            Self::Held { failing, .. } => *failing = Some(failed),
            Self::Starting => {
                *self = Self::Without { failing: failed, since: Instant::now(), given_up: give_up };
            }
            Self::Without { failing, given_up, since: _ } => {
                *failing = failed;
                *given_up |= give_up;
            }
        }
    }

    /// What the file has changed to gives no token for that reason, or is no longer asked.
    pub(super) fn change(&mut self, failing: Option<Failing>) {
        if let Self::Held { changed, .. } = self {
            *changed = failing;
        }
    }
}
