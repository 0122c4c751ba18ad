//! Errors of Google's APIs.

use http::StatusCode;
use serde_json::{Value, json};

use crate::access_token::{ANDROID_MANAGEMENT_API, GoogleApi};
use crate::denial::Denial;

/// An error of the API: Google's JSON form of a `google.rpc.Status`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct ApiError {
    http: StatusCode,
    status: &'static str,
    message: String,
    details: Vec<Value>,
    /// The `WWW-Authenticate` header of an error about a token.
    pub(crate) challenge: Option<&'static str>,
}

impl ApiError {
    fn new(http: StatusCode, status: &'static str, message: impl Into<String>) -> Self {
        Self { http, status, message: message.into(), details: Vec::new(), challenge: None }
    }

    fn with(mut self, detail: Value) -> Self {
        self.details.push(detail);
        self
    }

    /// The HTTP status.
    pub fn http_status(&self) -> StatusCode {
        self.http
    }

    /// The name of the `google.rpc.Code`, `NOT_FOUND` for example.
    pub fn status(&self) -> &'static str {
        self.status
    }

    /// The body, `{"error": {"code", "message", "status", "details"}}`.
    pub fn body(&self) -> Value {
        let mut error = json!({
            "code": self.http.as_u16(), "message": self.message, "status": self.status,
        });
        if !self.details.is_empty() {
            error["details"] = Value::Array(self.details.clone());
        }
        json!({ "error": error })
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Requested entity was not found.")
    }

    /// 400 for an invalid request. Google omits an empty `field`, which means the whole body.
    pub(crate) fn invalid_argument(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut violation = json!({ "description": message });
        if !field.is_empty() {
            violation["field"] = field.into();
        }
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message).with(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [violation],
        }))
    }

    /// 400 for a body over the limit, which Google sends without details.
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request payload size exceeds the limit: {limit} bytes.");
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    pub(crate) fn failed_precondition(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", message)
    }

    pub(crate) fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "UNIMPLEMENTED", message)
    }

    pub(crate) fn unavailable() -> Self {
        let message = "The service is currently unavailable.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
    }

    /// 401 for a call without a valid bearer token. `reason` is one of `google.api.ErrorReason`.
    pub(crate) fn unauthenticated(reason: &'static str, api: &GoogleApi, method: &str) -> Self {
        let hint = "Expected OAuth 2 access token, login cookie or other valid authentication \
                    credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.";
        let missing = reason == "CREDENTIALS_MISSING";
        let problem = if missing {
            "Request is missing required authentication credential."
        } else {
            "Request had invalid authentication credentials."
        };
        let mut error = Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", format!("{problem} {hint}"))
            .with(error_info(reason, json!({ "service": api.name, "method": method })));
        error.challenge = Some(if missing {
            r#"Bearer realm="https://accounts.google.com/""#
        } else {
            r#"Bearer realm="https://accounts.google.com/", error="invalid_token""#
        });
        error
    }

    /// 403 for a token without a scope of the API.
    pub(crate) fn insufficient_scope(api: &GoogleApi, method: &str) -> Self {
        let message = "Request had insufficient authentication scopes.";
        let metadata = json!({ "service": api.name, "method": method });
        let mut error = Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message)
            .with(error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", metadata));
        error.challenge = Some(api.insufficient_scope);
        error
    }

    /// 403 for the token of a misconfigured account or `project`.
    pub(crate) fn denied(denial: Denial, project: &str) -> Self {
        let metadata = json!({ "service": ANDROID_MANAGEMENT_API.name, "consumer": project });
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", denial.message(project))
            .with(error_info(denial.reason(), metadata))
    }

    /// 403 for a service account that the caller may not impersonate.
    pub(crate) fn may_not_impersonate() -> Self {
        let permission = "iam.serviceAccounts.getAccessToken";
        let message = format!("Permission '{permission}' denied on resource (or it may not exist).");
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message).with(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "IAM_PERMISSION_DENIED", "domain": "iam.googleapis.com",
            "metadata": { "permission": permission },
        }))
    }

    /// 404 for a service account that does not exist.
    pub(crate) fn no_account(email: &str) -> Self {
        let message = format!("Not found; Gaia id not found for email {email}");
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "Internal error encountered.")
    }

    /// 429 for an exhausted quota of `project`, in the form that users of the API have reported.
    pub(crate) fn exhausted(project: &str, limit: usize) -> Self {
        let service = ANDROID_MANAGEMENT_API.name;
        let message = format!(
            "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute' of service \
             '{service}' for consumer '{project}'."
        );
        let metadata = json!({
            "consumer": project, "service": service, "quota_location": "global",
            "quota_limit": "RequestsPerMinutePerProject", "quota_limit_value": limit.to_string(),
            "quota_metric": format!("{service}/requests"),
        });
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message)
            .with(error_info("RATE_LIMIT_EXCEEDED", metadata))
    }
}

fn error_info(reason: &str, metadata: Value) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason, "domain": "googleapis.com", "metadata": metadata,
    })
}
