//! How a call to the Android Management API can end other than well.

use std::{sync::Arc, time::Duration};

use super::google_error::GoogleError;

/// A call that did not succeed. `Display` is for the operator's log; what a caller is told is decided by
/// `operations::status` alone.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No credential of the configuration serves the enterprise: nothing was sent.
    #[error("no credential serves the enterprise")]
    NoCredential,

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
        /// What is wrong with it, in our words, which the caller reads too: "its body is over 4 MiB".
        what: &'static str,
        /// The HTTP status of the answer.
        http_status: u16,
    },

    /// What answered does not speak HTTP.
    #[error("what answers at the upstream does not speak HTTP: {cause}")]
    NotHttp {
        /// The cause, for the log only.
        cause: String,
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
    /// Google's JSON error, when the body was one. Shared, since all who share a call get its error.
    pub google: Option<Arc<GoogleError>>,
    /// The `Retry-After` header, as the time from its arrival.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// Whether it speaks of our credential: 401, or the error's status `UNAUTHENTICATED` under any HTTP
    /// status. It never speaks of the caller, whom Google does not see.
    #[must_use]
    pub fn rejects_credential(&self) -> bool {
        let status = self.google.as_ref().and_then(|google| google.status.as_deref());
        self.http_status == 401 || status == Some("UNAUTHENTICATED")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(http_status: u16, body: &str) -> Answer {
        Answer { http_status, google: GoogleError::parse(body.as_bytes()).map(Arc::new), retry_after: None }
    }

    #[test]
    fn a_401_and_unauthenticated_reject_the_credential() {
        for (http_status, body, rejects) in [
            (401, "", true),
            (401, r#"{"error":{"status":"PERMISSION_DENIED"}}"#, true),
            (403, r#"{"error":{"status":"UNAUTHENTICATED"}}"#, true),
            (403, r#"{"error":{"status":"PERMISSION_DENIED","code":401}}"#, false),
            (403, r#"{"error":{"message":"UNAUTHENTICATED"}}"#, false),
            (500, "UNAUTHENTICATED", false),
        ] {
            let answer = answer(http_status, body);
            assert_eq!(answer.rejects_credential(), rejects, "{http_status} {body}");
        }
    }

    #[test]
    fn the_log_never_quotes_a_body_that_is_not_googles() {
        let line = Error::Answered(answer(502, "<html>10.0.0.7</html>")).to_string();
        assert_eq!(line, "Google answered HTTP 502, with a body that is not Google's JSON");
        let line = Error::Answered(answer(404, r#"{"error":{"status":"NOT_FOUND","message":"gone"}}"#));
        assert_eq!(line.to_string(), "Google answered HTTP 404, NOT_FOUND: gone");
    }
}
