//! Errors in the two forms in which Google's servers send them: JSON from the API, a page of HTML from
//! the front end that stands before it.

use http::StatusCode;
use serde_json::{Value, json};

use super::access::{ANDROID_MANAGEMENT_API, Service};

/// An error of the API: Google's JSON form of a `google.rpc.Status`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct Refusal {
    http: StatusCode,
    status: &'static str,
    message: String,
    details: Vec<Value>,
    /// The `WWW-Authenticate` header that Google sends about a token.
    pub(super) challenge: Option<&'static str>,
}

impl Refusal {
    fn new(http: StatusCode, status: &'static str, message: impl Into<String>) -> Self {
        Self { http, status, message: message.into(), details: Vec::new(), challenge: None }
    }

    fn with(mut self, detail: Value) -> Self {
        self.details.push(detail);
        self
    }

    /// The HTTP status that it is sent with.
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

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Requested entity was not found.")
    }

    /// 400 for a fault of the request; Google leaves `field` out where it is about the whole body.
    pub(super) fn invalid_argument(field: &str, message: impl Into<String>) -> Self {
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

    /// 400 for a body that is too long to be read, which Google sends without details.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("Request payload size exceeds the limit: {limit} bytes.");
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    pub(super) fn failed_precondition(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", message)
    }

    pub(super) fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "UNIMPLEMENTED", message)
    }

    pub(super) fn unavailable() -> Self {
        let message = "The service is currently unavailable.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
    }

    /// 401 for a call without a bearer token, or with one that is not accepted. `reason` is one of
    /// `google.api.ErrorReason`.
    pub(super) fn unauthenticated(reason: &'static str, service: &Service, method: &str) -> Self {
        let hint = "Expected OAuth 2 access token, login cookie or other valid authentication \
                    credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.";
        let missing = reason == "CREDENTIALS_MISSING";
        let fault = if missing {
            "Request is missing required authentication credential."
        } else {
            "Request had invalid authentication credentials."
        };
        let mut refusal = Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", format!("{fault} {hint}"))
            .with(error_info(reason, json!({ "service": service.name, "method": method })));
        refusal.challenge = Some(if missing {
            r#"Bearer realm="https://accounts.google.com/""#
        } else {
            r#"Bearer realm="https://accounts.google.com/", error="invalid_token""#
        });
        refusal
    }

    /// 403 for a token that is good for other APIs.
    pub(super) fn insufficient_scope(service: &Service, method: &str) -> Self {
        let message = "Request had insufficient authentication scopes.";
        let metadata = json!({ "service": service.name, "method": method });
        let mut refusal = Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message)
            .with(error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", metadata));
        refusal.challenge = Some(service.wanted);
        refusal
    }

    /// 403 for a service account that the caller may not impersonate.
    pub(super) fn may_not_impersonate() -> Self {
        let permission = "iam.serviceAccounts.getAccessToken";
        let message = format!("Permission '{permission}' denied on resource (or it may not exist).");
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message).with(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "IAM_PERMISSION_DENIED", "domain": "iam.googleapis.com",
            "metadata": { "permission": permission },
        }))
    }

    /// 404 for a service account that there is not.
    pub(super) fn no_account(email: &str) -> Self {
        let message = format!("Not found; Gaia id not found for email {email}");
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// 500.
    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "Internal error encountered.")
    }

    /// 429 for a spent quota of `project`, worded as users of the API have reported it.
    pub(super) fn exhausted(project: &str, limit: usize) -> Self {
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
            .with(json!({
                "@type": "type.googleapis.com/google.rpc.Help",
                "links": [{
                    "description": "Request a higher quota limit.",
                    "url": "https://cloud.google.com/docs/quotas/help/request_increase",
                }],
            }))
    }
}

fn error_info(reason: &str, metadata: Value) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason, "domain": "googleapis.com", "metadata": metadata,
    })
}

/// The page that Google's front end sends for what never reaches an API: an unknown address, a
/// malformed request.
pub(super) fn page(status: StatusCode, explanation: &str) -> String {
    let reason = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    format!(
        "<!DOCTYPE html>\n<html lang=en>\n<title>Error {code} ({reason})!!1</title>\n\
         <p><b>{code}.</b> <ins>That’s an error.</ins>\n\
         <p>{explanation}  <ins>That’s all we know.</ins>\n"
    )
}
