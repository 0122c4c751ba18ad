//! Whether a credential can be used, for health, and why not, for the operator.

use std::{fmt, time::Duration};

use humantime::format_duration;
use tokio::time::Instant;

use super::{Failing, Held, State};

/// After so many failures in a row a credential that has had no token yet is no longer waited for.
const FAILURES: u32 = 3;

/// After this time neither, though it may have been spent on one answer that does not come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Whether calls that need a credential can be served. It begins with `Starting`, and never comes back there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It is too early to say.
    Starting,
    /// There is a valid token.
    Ready,
    /// There is none: it has ended, or the first was refused for good, or failed three times, or for ten
    /// seconds. It is asked for all the same.
    NotReady,
}

/// What the operator is told of a credential. No text of it holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There has been no token yet, and it is too early to give it up.
    Starting {
        /// Why the latest fetch failed, if one did.
        cause: Option<String>,
    },
    /// There is a valid token.
    Valid {
        /// For how long.
        left: Duration,
        /// Why the latest renewal failed, if it did.
        failing: Option<String>,
        /// Why what the file has changed to gives no token, if that is so: it does not keep the token from
        /// being renewed.
        changed: Option<String>,
    },
    /// There is none.
    Without {
        /// For how long.
        since: Duration,
        /// Why.
        cause: String,
        /// Whether asking again is of no use before somebody mends the credential.
        for_good: bool,
    },
}

/// Whether after so many failures a credential is no longer waited for at start, though there is time.
pub(super) fn is_given_up(for_good: bool, failures: u32) -> bool {
    for_good || failures >= FAILURES
}

impl Readiness {
    /// Whether the service is ready: each credential has a token or has been given up, and one at least
    /// has a token.
    #[must_use]
    pub fn are_enough(credentials: &[Self]) -> bool {
        !credentials.contains(&Self::Starting) && credentials.contains(&Self::Ready)
    }
}

impl State {
    pub(super) fn readiness(&self) -> Readiness {
        match self {
            Self::Starting | Self::Without { given_up: false, .. } => Readiness::Starting,
            Self::Held { token, .. } if token.is_valid() => Readiness::Ready,
            Self::Held { .. } | Self::Without { .. } => Readiness::NotReady,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self {
            Self::Starting => Standing::Starting { cause: None },
            Self::Without { failing, given_up: false, .. } => {
                Standing::Starting { cause: Some(failing.cause.clone()) }
            }
            Self::Without { failing, since, .. } => Standing::Without {
                since: since.elapsed(),
                cause: failing.cause.clone(),
                for_good: failing.for_good,
            },
            Self::Held { token: Held { ends, .. }, failing, changed } => {
                let left = ends.saturating_duration_since(Instant::now());
                let cause_of = |failing: &Option<Failing>| failing.as_ref().map(|it| it.cause.clone());
                let (renewal, change) = (cause_of(failing), cause_of(changed));
                if !left.is_zero() {
                    return Standing::Valid { left, failing: renewal, changed: change };
                }
                let late = || "the token has ended, and its renewal is late".to_owned();
                Standing::Without {
                    since: ends.elapsed(),
                    cause: renewal.unwrap_or_else(late) + &of_change(change.as_deref()),
                    for_good: failing.is_some()
                        && [failing, changed].into_iter().flatten().all(|failing| failing.for_good),
                }
            }
        }
    }
}

/// What is added to the rest when the changed file gives no token.
fn of_change(cause: Option<&str>) -> String {
    cause.map_or_else(String::new, |cause| format!("; the changed file gives no token: {cause}"))
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // More than seconds is of no use to a reader.
        let whole = |time: &Duration| format_duration(Duration::from_secs(time.as_secs()));
        match self {
            Self::Starting { cause: None } => f.write_str("the first token has not arrived yet"),
            Self::Starting { cause: Some(cause) } => write!(f, "no valid token yet: {cause}"),
            Self::Valid { left, failing, changed } => {
                write!(f, "valid for {}", whole(left))?;
                if let Some(cause) = failing {
                    write!(f, ", and not renewed: {cause}")?;
                }
                f.write_str(&of_change(changed.as_deref()))
            }
            Self::Without { since, cause, for_good } => {
                let mend = if *for_good { "; to be mended" } else { "" };
                write!(f, "no valid token: {cause} (for {}{mend})", whole(since))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness::{self, *};

    #[test]
    fn the_service_waits_for_each_credential_and_needs_one() {
        let cases: [(&[Readiness], bool); 8] = [
            (&[Starting], false),
            (&[Ready], true),
            (&[NotReady], false),
            (&[Ready, Starting], false),
            (&[Starting, Ready], false),
            (&[NotReady, Ready, NotReady], true),
            (&[NotReady, NotReady], false),
            (&[], false),
        ];
        for (credentials, ready) in cases {
            assert_eq!(Readiness::are_enough(credentials), ready, "{credentials:?}");
        }
    }
}
