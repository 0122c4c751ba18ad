//! `countermand check --online`: whether the API accepts the token of each credential. Only a query shows that, because
//! a token endpoint checks neither the enabled APIs of a project nor its state.

use std::time::Duration;

use http::{HeaderMap, header};
use reqwest::{Method, Url};
use tokio::time::timeout;
use tonic::Code;

use super::{finding::Finding, network::UNREACHABLE_HINT};
use crate::{
    amapi::{
        error::{Error, ErrorResponse},
        google_error::GoogleError,
        settings::Upstream,
    },
    credentials::{Authorization, Pattern, Token},
    http_client::{Authorities, HttpClient, ProxySettings, tls::TlsError},
    operations::status,
};

/// The timeout of the query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum length of the response.
const MAX_RESPONSE: usize = 64 * 1024;

/// The device, the operation and, without a configured id, the enterprise of the query. None of them exists.
const PLACEHOLDER: &str = "countermand-check";

/// Sends the query of `--online`.
pub(super) struct OnlineCheck {
    client: HttpClient,
    base: Url,
}

/// The operation that the query gets.
struct QueriedName {
    name: String,
    /// Whether the enterprise is one that the credential serves.
    is_configured: bool,
}

impl QueriedName {
    fn new(enterprises: &[Pattern]) -> Self {
        let configured = enterprises.iter().find_map(|pattern| match pattern {
            Pattern::Id(id) => Some(id.as_str()),
            Pattern::Prefix(_) => None,
        });
        let enterprise = configured.unwrap_or(PLACEHOLDER);
        let name = format!("enterprises/{enterprise}/devices/{PLACEHOLDER}/operations/{PLACEHOLDER}");
        Self { name, is_configured: configured.is_some() }
    }
}

impl OnlineCheck {
    /// # Errors
    ///
    /// The HTTP client cannot be built.
    pub(super) fn new(
        upstream: &Upstream,
        authorities: &Authorities,
        proxy: &ProxySettings,
    ) -> Result<Self, TlsError> {
        let base = upstream.url.url().clone();
        Ok(Self { client: HttpClient::new(&base, authorities, proxy)?, base })
    }

    /// Gets an operation that does not exist, once. The query changes nothing.
    pub(super) async fn finding(&self, subject: &str, token: &Token, enterprises: &[Pattern]) -> Finding {
        let queried = QueriedName::new(enterprises);
        match timeout(QUERY_TIMEOUT, self.query(token, &queried.name)).await {
            Ok(Ok(response)) => classify(subject, &response, &queried),
            Ok(Err(cause)) => {
                Finding::error(subject, format!("one query got no response: {cause}"), UNREACHABLE_HINT)
            }
            Err(_) => {
                let finding = format!("one query got no response within {QUERY_TIMEOUT:?}");
                Finding::error(subject, finding, UNREACHABLE_HINT)
            }
        }
    }

    async fn query(&self, token: &Token, name: &str) -> Result<ErrorResponse, String> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/v1/{name}", url.path().trim_end_matches('/')));
        let authorization = Authorization::new(token, 0);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.header());
        if let Some(project) = authorization.quota_project() {
            headers.insert("x-goog-user-project", project.clone());
        }
        let response = self.client.send(Method::GET, url, headers, "").await;
        let response = response.map_err(|error| error.to_string())?;
        let http_status = response.status().as_u16();
        let body = response.body(MAX_RESPONSE).await.map_err(|error| error.to_string())?;
        // The response may quote the token.
        let google = GoogleError::parse(&body).map(|error| error.redacted(authorization.redactor()).into());
        Ok(ErrorResponse { http_status, google, retry_after: None })
    }
}

fn classify(subject: &str, response: &ErrorResponse, queried: &QueriedName) -> Finding {
    let QueriedName { name, is_configured } = queried;
    let finding = format!("one query, a get of {name}: {response}");
    let error = |hint| Finding::error(subject, &finding, hint);
    let Some(google) = response.google.as_deref().filter(|_| response.http_status >= 400) else {
        return error(
            "check that upstream.url is the Android Management API, and that no proxy answers for it",
        );
    };
    if let Some(operator_error) = google.operator_error() {
        return error(operator_error.hint);
    }
    if response.rejects_credential() {
        return error(
            "check that the account of the credential is not disabled, and that the clock here is correct",
        );
    }
    let accepted = || Finding::ok(subject, format!("the API accepts the token ({finding})"));
    match status::from_upstream(&Error::Response(response.clone())).code() {
        // The backend checked the names, so the API is enabled and the token has the scope.
        Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition => accepted(),
        Code::PermissionDenied if *is_configured => error(
            "check that the enterprise is one of the credential's project, and give the account of the credential \
             the role Android Management User there",
        ),
        // The API does not tell whether an enterprise of another project exists.
        Code::PermissionDenied => accepted(),
        Code::ResourceExhausted => {
            let hint = "try again later, or request a higher quota for the credential's project";
            Finding::warning(subject, finding, hint)
        }
        _ => error("try again later"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{ErrorResponse, GoogleError, Pattern, QueriedName, classify};

    fn error(status: &str, message: &str, reason: Option<&str>) -> String {
        let details: Vec<_> = reason
            .map(|reason| json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}))
            .into_iter()
            .collect();
        json!({"error": {"code": 0, "status": status, "message": message, "details": details}}).to_string()
    }

    #[test]
    fn each_response_has_its_level_and_hint() {
        let any = QueriedName::new(&[Pattern::Prefix("LC".to_owned())]);
        let configured = QueriedName::new(&[Pattern::all(), Pattern::Id("LC01".to_owned())]);
        assert!(any.name.starts_with("enterprises/countermand-check/"), "{}", any.name);
        assert!(configured.name.starts_with("enterprises/LC01/"), "{}", configured.name);
        let denied = error("PERMISSION_DENIED", "The caller does not have permission", None);
        let reason = |reason| error("PERMISSION_DENIED", "no", Some(reason));
        let missing = "Requested entity was not found.";
        for (name, http_status, body, level, hint) in [
            (&any, 404, error("NOT_FOUND", missing, None), "ok", ""),
            (&any, 500, error("INTERNAL", missing, None), "ok", ""),
            (&configured, 404, error("NOT_FOUND", missing, None), "ok", ""),
            (&any, 400, error("INVALID_ARGUMENT", "Invalid device.", None), "ok", ""),
            (&any, 403, denied.clone(), "ok", ""),
            (&configured, 403, denied, "error", "Android Management User"),
            (&any, 403, reason("SERVICE_DISABLED"), "error", "enable the Android Management API"),
            (&any, 403, reason("ACCESS_TOKEN_SCOPE_INSUFFICIENT"), "error", "scope"),
            (&any, 400, error("INVALID_ARGUMENT", "no", Some("CONSUMER_INVALID")), "error", "project"),
            (&any, 403, reason("rateLimitExceeded"), "warning", "quota"),
            (&any, 429, error("RESOURCE_EXHAUSTED", "Quota exceeded.", None), "warning", "quota"),
            (&any, 401, error("UNAUTHENTICATED", "no", None), "error", "account"),
            (&any, 503, error("UNAVAILABLE", "no", None), "error", "try again later"),
            (&any, 404, "<html>".to_owned(), "error", "upstream.url"),
            (&any, 200, "{}".to_owned(), "error", "upstream.url"),
            (&any, 302, String::new(), "error", "upstream.url"),
        ] {
            let google = GoogleError::parse(body.as_bytes()).map(Arc::new);
            let response = ErrorResponse { http_status, google, retry_after: None };
            let finding = serde_json::to_value(classify("credential emea", &response, name)).unwrap();
            assert_eq!(finding["level"], level, "{http_status} {body}: {finding}");
            assert!(finding["hint"].as_str().unwrap_or_default().contains(hint), "{finding}");
            assert!(
                finding["finding"].as_str().unwrap().contains(&format!("HTTP {http_status}")),
                "{finding}"
            );
        }
    }
}
