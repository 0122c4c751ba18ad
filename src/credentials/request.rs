//! The requests that fetch a token, and their responses.

use std::{borrow::Cow, fmt::Display, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use reqwest::{Method, Url};
use tokio::time::timeout;

use super::token::{FetchError, FetchErrorKind, Secret, TokenService};
use crate::http_client::{HttpClient, SendError};

/// The time limit of one request. It is shorter than the limit of a fetch, so that the error names the service.
const TIMEOUT: Duration = Duration::from_secs(9);

/// The maximum size of a response or of a subject token file, in bytes. No token is as long.
pub(super) const LIMIT: usize = 64 * 1024;

/// The fields of forms that are secrets (RFC 6749, RFC 7523, RFC 8693).
const SECRET_FIELDS: [&str; 4] = ["assertion", "client_secret", "refresh_token", "subject_token"];

/// A request to a token service.
pub(super) struct TokenRequest {
    pub(super) service: TokenService,
    /// The name of the service for operators.
    pub(super) name: Cow<'static, str>,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The secrets in the request. The text of an error must not repeat them.
    pub(super) secrets: Vec<Secret>,
}

/// A response of any status.
pub(super) struct TokenResponse {
    pub(super) service: TokenService,
    pub(super) name: Cow<'static, str>,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) secrets: Vec<Secret>,
}

impl TokenService {
    fn name(self) -> &'static str {
        match self {
            Self::TokenEndpoint => "the token endpoint",
            Self::TokenExchange => "the security token service",
            Self::SubjectTokenSource => "the source of the subject token",
            Self::MetadataServer => "the metadata server",
            Self::IamCredentials => "IAM Credentials",
        }
    }
}

impl TokenRequest {
    /// A GET.
    pub(super) fn get(service: TokenService, url: Url, headers: HeaderMap) -> Self {
        let name = service.name().into();
        Self { service, name, method: Method::GET, url, headers, body: Vec::new(), secrets: Vec::new() }
    }

    /// A POST of a form. [`SECRET_FIELDS`] names the secret fields. The values of the URL's query count as secret too.
    pub(super) fn form(service: TokenService, url: Url, body: String) -> Self {
        let fields =
            form_urlencoded::parse(body.as_bytes()).filter(|(name, _)| SECRET_FIELDS.contains(&&**name));
        let secrets = fields.chain(url.query_pairs()).map(|(_, value)| value.into_owned().into()).collect();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, form)]);
        let body = body.into_bytes();
        Self { service, name: service.name().into(), method: Method::POST, url, headers, body, secrets }
    }

    /// Sends the request once and reads the whole response.
    pub(super) async fn send(self, client: &HttpClient) -> Result<TokenResponse, FetchError> {
        let Self { service, name, method, url, headers, body, mut secrets } = self;
        secrets.extend(headers.values().filter_map(secret));
        let error = |kind, cause: &dyn Display| FetchError::of(service, &name, kind, cause);
        let sent = client.send(method, url, headers, body);
        let exchange = async {
            let response = sent.await.map_err(|e| error(kind(&e), &format_args!(": {e}")))?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.body(LIMIT).await;
            let body = body.map_err(|e| error(FetchErrorKind::Unusable, &format_args!(": {e}")))?;
            Ok((status, headers, body))
        };
        let (status, headers, body) = timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| {
            Err(error(FetchErrorKind::Unreachable, &format_args!(" did not answer within {TIMEOUT:?}")))
        })?;
        Ok(TokenResponse { service, name, status, headers, body, secrets })
    }
}

fn kind(error: &SendError) -> FetchErrorKind {
    if error.is_refused_by_proxy { FetchErrorKind::RefusedByProxy } else { FetchErrorKind::Unreachable }
}

/// The secret in a header's value: the part after the scheme, if the value begins with `Bearer` or `Basic`.
fn secret(value: &HeaderValue) -> Option<Secret> {
    let text = value.is_sensitive().then(|| value.to_str().ok()).flatten()?;
    let secret = text.split_once(' ').map_or(text, |(_, secret)| secret);
    Some(secret.to_owned().into())
}
