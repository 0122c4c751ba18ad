//! One request on the way to a token, and its answer.

use std::{fmt, future::Future, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use reqwest::{Method, Url};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::token::FetchError;
use crate::http_client::{self, HttpClient};

/// The bound on one request, a little less than that of a fetch, so that it is told who did not answer.
const TIMEOUT: Duration = Duration::from_secs(9);

/// More than any token request or answer holds.
pub(super) const LIMIT: usize = 64 * 1024;

/// The fields of forms that are secrets (RFC 6749, RFC 7523, RFC 8693).
const SECRET_FIELDS: [&str; 4] = ["assertion", "client_secret", "refresh_token", "subject_token"];

/// The secrets that a request carries, so that they can be left out of what is told of its answer.
pub(super) type Secrets = Vec<Zeroizing<String>>;

/// Who is asked on the way to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// OAuth's token endpoint, of service accounts and logins.
    TokenEndpoint,
    /// The security token service, which exchanges a subject token.
    TokenExchange,
    /// The URL at which a workload's subject token is.
    SubjectTokenSource,
    /// The metadata server of Google Cloud.
    MetadataServer,
    /// IAM Credentials, for an account to be impersonated.
    IamCredentials,
}

/// Who is asked, and what an operator would call it: `the token endpoint`.
#[derive(Clone, Copy)]
pub(super) struct Whom<'a> {
    pub(super) asked: Asked,
    pub(super) name: &'a str,
}

impl fmt::Display for Whom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A request.
pub(super) struct Question<'a> {
    pub(super) whom: Whom<'a>,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) secrets: Secrets,
}

/// An answer, of whatever status.
pub(super) struct Reply<'a> {
    pub(super) whom: Whom<'a>,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) secrets: Secrets,
}

impl<'a> Question<'a> {
    /// A GET.
    pub(super) fn get(whom: Whom<'a>, url: Url, headers: HeaderMap) -> Self {
        Self { whom, method: Method::GET, url, headers, body: Zeroizing::default(), secrets: Vec::new() }
    }

    /// A POST of a form, whose secrets are known by the names of their fields; and what the URL asks is
    /// nobody else's business.
    pub(super) fn form(whom: Whom<'a>, url: Url, body: Zeroizing<Vec<u8>>) -> Self {
        let fields = form_urlencoded::parse(&body).filter(|(name, _)| SECRET_FIELDS.contains(&&**name));
        let secrets = fields.chain(url.query_pairs()).map(|(_, value)| value.into_owned().into()).collect();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        Self { whom, method: Method::POST, url, headers, body, secrets }
    }

    /// Sends the request, once, and reads the answer whole.
    pub(super) async fn ask(self, client: &HttpClient) -> Result<Reply<'a>, FetchError> {
        let Self { whom, method, url, headers, body, mut secrets } = self;
        secrets.extend(headers.values().filter_map(secret));
        // The bytes are wiped when the last who holds them lets go.
        let sent = client.send(method, url, headers, Bytes::from_owner(body));
        let (status, headers, body) = in_time(whom, async {
            let unanswered = |error| FetchError::Unanswered(Some(whom.asked), format!("{whom}: {error}"));
            read(sent.await.map_err(unanswered)?, whom).await
        })
        .await?;
        Ok(Reply { whom, status, headers, body, secrets })
    }
}

/// What is secret of a header's value: without the scheme, `Bearer` or `Basic`, that it may begin with.
fn secret(value: &HeaderValue) -> Option<Zeroizing<String>> {
    let text = value.is_sensitive().then(|| value.to_str().ok()).flatten()?;
    let secret = text.split_once(' ').map_or(text, |(_, secret)| secret);
    Some(Zeroizing::new(secret.to_owned()))
}

async fn read(
    answer: http_client::Response,
    whom: Whom<'_>,
) -> Result<(StatusCode, HeaderMap, Zeroizing<Vec<u8>>), FetchError> {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.body(LIMIT).await;
    let body = body.map_err(|error| FetchError::Unusable(Some(whom.asked), format!("{whom}: {error}")))?;
    Ok((status, headers, Zeroizing::new(body)))
}

async fn in_time<T>(
    whom: Whom<'_>,
    asked: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    timeout(TIMEOUT, asked).await.unwrap_or_else(|_| {
        let late = format!("{whom} did not answer within {TIMEOUT:?}");
        Err(FetchError::Unanswered(Some(whom.asked), late))
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::{Asked, Whom, in_time};
    use crate::credentials::FetchError;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_named() {
        let whom = Whom { asked: Asked::MetadataServer, name: "the metadata server" };
        let late = in_time(whom, pending::<Result<(), _>>()).await.expect_err("late");
        assert!(matches!(late, FetchError::Unanswered(Some(Asked::MetadataServer), _)), "{late:?}");
        assert_eq!(late.to_string(), "the metadata server did not answer within 9s");
    }
}
