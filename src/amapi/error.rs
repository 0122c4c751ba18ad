//! The errors of a call to the Android Management API.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::google_error::{GoogleError, type_name};

/// The maximum length of a request's URL, in bytes. The `Uri` of the crate `http`, which hyper sends, has this limit.
pub const MAX_URL: usize = 65_534;

/// The reason why a call failed. `Display` is for the operator's log. `operations::status` makes the status for the caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No configured credential is for the enterprise. No request was sent.
    #[error("no credential serves the enterprise")]
    NoCredential,

    /// A field of the request makes its URL longer than [`MAX_URL`]. No request was sent.
    #[error("the request's URL would have {url_length} bytes, because of the field {field}")]
    UrlTooLong {
        /// The field, by its name in the contract.
        field: &'static str,
        /// The length of the URL, in bytes.
        url_length: usize,
    },

    /// The HTTP client cannot build the request. No request was sent.
    #[error("the request cannot be built: {cause}")]
    NotBuilt {
        /// The cause, for the log only.
        cause: String,
    },

    /// Google returned an error.
    #[error("Google returned {0}")]
    Response(ErrorResponse),

    /// Google rejected the credential (401), again after one token refresh.
    #[error("Google rejected the credential, again after a token refresh: {0}")]
    CredentialRejected(ErrorResponse),

    /// No valid token is available. The next attempt to fetch one is in `retry_after`.
    #[error("no valid token; the next attempt is in {retry_after:?}")]
    CredentialUnavailable {
        /// The time until the next attempt.
        retry_after: Duration,
    },

    /// A response that cannot be used: a redirect, malformed JSON.
    #[error("the upstream's response cannot be used: {what}")]
    Malformed {
        /// The reason, for example "a redirect". It is also sent to the caller.
        what: &'static str,
        /// The HTTP status of the response.
        http_status: u16,
    },

    /// A response whose body is over the limit.
    #[error("the upstream's response cannot be used: a body of more than 4 MiB")]
    BodyTooLong {
        /// The HTTP status of the response.
        http_status: u16,
    },

    /// The upstream does not speak HTTP.
    #[error("the upstream does not speak HTTP: {cause}")]
    NotHttp {
        /// The cause, for the log only.
        cause: String,
    },

    /// No complete response: the connection could not be established, was reset, or ended within the body.
    #[error("no complete response from the upstream: {cause}")]
    Unreachable {
        /// The cause, for the log only. It may contain IP addresses.
        cause: String,
    },

    /// The deadline passed before the call completed.
    #[error("the deadline passed {while_doing}")]
    DeadlineExceeded {
        /// The step in progress, as the end of the message: "while waiting for a token".
        while_doing: &'static str,
    },

    /// The turn of the call in the budget of its Google project would come after the deadline. The request of this try was
    /// not sent.
    #[error(
        "the quota of the project {project:?} has no query before the deadline; the turn would be in {retry_after:?}"
    )]
    QuotaBudget {
        /// The time until the turn would come.
        retry_after: Duration,
        /// The id of the project. Empty if it is unknown.
        project: Arc<str>,
    },

    /// All callers of a read left while it waited for its turn in the budget. The request was not sent.
    #[error("the callers left while the call waited for its turn")]
    Abandoned,

    /// The task of the call ended without a result, because of a bug in this server.
    #[error("the task of the call ended without a result")]
    Lost,
}

impl Error {
    /// The deadline passed before the request was handed to a connection.
    pub(crate) const UNSENT: Self =
        Self::DeadlineExceeded { while_doing: "before anything was sent to the upstream" };

    /// The deadline passed after the request was sent.
    pub(crate) const NO_RESPONSE: Self =
        Self::DeadlineExceeded { while_doing: "before the upstream answered" };
}

/// A response from Google whose status is an error.
#[derive(Debug, Clone)]
pub struct ErrorResponse {
    /// The HTTP status. It is a 2xx if the body has an `error`, and never a 3xx, which is [`Error::Malformed`].
    pub http_status: u16,
    /// Google's JSON error; `None` when the body is not one. Shared by all callers that share the upstream request.
    pub google: Option<Arc<GoogleError>>,
    /// The `Retry-After` header, as a duration, counted from the arrival of the response.
    pub retry_after: Option<Duration>,
}

impl ErrorResponse {
    /// Whether Google rejects this server's credential: HTTP 401, or the error status `UNAUTHENTICATED` with any
    /// HTTP status. It never refers to the caller's credential, which is not sent to Google.
    #[must_use]
    pub fn rejects_credential(&self) -> bool {
        let status = self.google.as_ref().and_then(|google| google.status.as_deref());
        self.http_status == 401 || status == Some("UNAUTHENTICATED")
    }

    /// Whether Google refuses the request for a quota or a limit: HTTP 429, 403 with a reason about a quota, or the
    /// error status `RESOURCE_EXHAUSTED` with any HTTP status.
    #[must_use]
    pub fn is_quota_refusal(&self) -> bool {
        let Some(google) = self.google.as_deref() else { return self.http_status == 429 };
        self.http_status == 429
            || google.status.as_deref() == Some("RESOURCE_EXHAUSTED")
            || (self.http_status == 403 && google.reasons.iter().any(|reason| is_quota(reason)))
    }

    /// The time for which Google asks for no further request: `Retry-After`, otherwise the `google.rpc.RetryInfo` of the
    /// body.
    #[must_use]
    pub fn quota_hold(&self) -> Option<Duration> {
        let details = || self.google.as_deref()?.details.iter().find_map(retry_delay);
        self.retry_after.or_else(details)
    }
}

/// Whether Google reports an exhausted quota or limit with this reason, as HTTP 403 instead of 429:
/// `quotaExceeded`, `rateLimitExceeded`, `RATE_LIMIT_EXCEEDED`, `userRateLimitExceededUnreg` and the like
/// (<https://developers.google.com/webmaster-tools/v1/errors>, "usageLimits").
fn is_quota(reason: &str) -> bool {
    let reason = reason.replace('_', "").to_ascii_lowercase();
    let reason = reason.strip_suffix("unreg").unwrap_or(&reason);
    reason.ends_with("limitexceeded") || reason.ends_with("quotaexceeded")
}

/// The `retryDelay` of a `google.rpc.RetryInfo`, in the JSON form of `google.protobuf.Duration`: `1.5s`.
fn retry_delay(detail: &Value) -> Option<Duration> {
    if type_name(detail) != Some("google.rpc.RetryInfo") {
        return None;
    }
    let seconds = detail.get("retryDelay")?.as_str()?.strip_suffix('s')?;
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

impl std::fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {}", self.http_status)?;
        match &self.google {
            Some(google) => write!(f, ", {google}"),
            None => f.write_str(", without a Google JSON error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(http_status: u16, body: &str) -> ErrorResponse {
        ErrorResponse {
            http_status,
            google: GoogleError::parse(body.as_bytes()).map(Arc::new),
            retry_after: None,
        }
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
            let response = response(http_status, body);
            assert_eq!(response.rejects_credential(), rejects, "{http_status} {body}");
        }
    }

    #[test]
    fn quota_refusals_are_told_apart_from_other_errors() {
        let reason = |reason: &str| {
            format!(r#"{{"error":{{"status":"PERMISSION_DENIED","errors":[{{"reason":"{reason}"}}]}}}}"#)
        };
        for (http_status, body, is_refusal) in [
            (429, String::new(), true),
            (429, r#"{"error":{"status":"ABORTED"}}"#.to_owned(), true),
            (200, r#"{"error":{"status":"RESOURCE_EXHAUSTED"}}"#.to_owned(), true),
            (403, reason("userRateLimitExceeded"), true),
            (403, reason("RATE_LIMIT_EXCEEDED"), true),
            (403, reason("dailyLimitExceededUnreg"), true),
            (403, reason("quotaExceeded"), true),
            (403, reason("forbidden"), false),
            (400, reason("quotaExceeded"), false),
            (403, String::new(), false),
            (503, r#"{"error":{"status":"UNAVAILABLE"}}"#.to_owned(), false),
        ] {
            assert_eq!(response(http_status, &body).is_quota_refusal(), is_refusal, "{http_status} {body}");
        }
    }

    #[test]
    fn the_hold_is_the_header_or_else_the_delay_in_the_body() {
        let with_delay = |delay: &str| {
            let info = r#""@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay""#;
            response(429, &format!(r#"{{"error":{{"code":429,"details":[{{}},{{{info}:"{delay}"}}]}}}}"#))
        };
        assert_eq!(with_delay("1.5s").quota_hold(), Some(Duration::from_millis(1500)));
        let with_header = ErrorResponse { retry_after: Some(Duration::from_secs(7)), ..with_delay("1.5s") };
        assert_eq!(with_header.quota_hold(), Some(Duration::from_secs(7)));
        for invalid in ["", "s", "-1s", "1", "1m", "1e300s", "NaNs"] {
            assert_eq!(with_delay(invalid).quota_hold(), None, "{invalid}");
        }
        assert_eq!(response(429, "").quota_hold(), None);
    }

    #[test]
    fn display_omits_a_body_that_is_not_a_google_error() {
        let line = Error::Response(response(502, "<html>10.0.0.7</html>")).to_string();
        assert_eq!(line, "Google returned HTTP 502, without a Google JSON error");
        let line = Error::Response(response(404, r#"{"error":{"status":"NOT_FOUND","message":"gone"}}"#));
        assert_eq!(line.to_string(), "Google returned HTTP 404, NOT_FOUND: gone");
    }
}
