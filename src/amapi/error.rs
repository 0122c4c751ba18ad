//! How a call to the Android Management API can end other than well.

use std::time::Duration;

use super::google_error::GoogleError;

/// A call that did not succeed. `Display` is for the operator's log; what a caller is told is decided by
/// `operations::status` alone.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Google answered, with a status that is not 2xx.
    #[error("Google answered {0}")]
    Answered(Answer),

    /// Google rejected our credential (401), again after one refresh of the token.
    #[error("Google rejected the credential, also after a refresh: {0}")]
    CredentialRejected(Answer),

    /// There is no valid token now, and the next attempt to get one is `retry_after` away.
    #[error("no valid token; the next attempt is in {retry_after:?}")]
    CredentialUnavailable {
        /// The time until the next attempt.
        retry_after: Duration,
    },

    /// An answer that Google's API does not give: a redirect, a body over the limit, malformed JSON.
    #[error("the upstream's answer is not the API's: {what}")]
    Malformed {
        /// What is wrong with it, in our words.
        what: &'static str,
        /// The HTTP status of the answer.
        http_status: u16,
    },

    /// No whole answer: the connection could not be made, was reset, or broke off in the body.
    #[error("no answer from the upstream: {cause}")]
    Unreachable {
        /// The cause, for the log only: it may name addresses.
        cause: String,
    },

    /// The deadline passed first.
    #[error("the deadline passed {while_doing}")]
    DeadlineExceeded {
        /// What was being waited for.
        while_doing: &'static str,
    },

    /// The task that carried the call ended without an outcome: a defect of ours.
    #[error("the task that carried the call was lost")]
    Lost,
}

/// What Google answered in place of success.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status, never 2xx or 3xx.
    pub http_status: u16,
    /// Google's JSON error, when the body was one.
    pub google: Option<GoogleError>,
    /// The `Retry-After` header, as the time from its arrival.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {}", self.http_status)?;
        match &self.google {
            Some(google) => write!(f, ", {google}"),
            None => f.write_str(", with a body that is not Google's JSON"),
        }
    }
}
