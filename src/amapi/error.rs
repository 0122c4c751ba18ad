//! The errors of a call to the Android Management API.

use std::{sync::Arc, time::Duration};

use super::google_error::GoogleError;

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

    /// A response that cannot be used: a redirect, a body over the limit, malformed JSON.
    #[error("the upstream's response cannot be used: {what}")]
    Malformed {
        /// The reason, for example "a body of more than 4 MiB". It is also sent to the caller.
        what: &'static str,
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

    /// The task of the call ended without a result, because of a bug in this server.
    #[error("the task of the call ended without a result")]
    Lost,
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
    fn display_omits_a_body_that_is_not_a_google_error() {
        let line = Error::Response(response(502, "<html>10.0.0.7</html>")).to_string();
        assert_eq!(line, "Google returned HTTP 502, without a Google JSON error");
        let line = Error::Response(response(404, r#"{"error":{"status":"NOT_FOUND","message":"gone"}}"#));
        assert_eq!(line.to_string(), "Google returned HTTP 404, NOT_FOUND: gone");
    }
}
