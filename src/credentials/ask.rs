//! One request on the way to a token, and its answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use reqwest::{Method, Url};
use zeroize::Zeroizing;

use super::token::FetchError;
use crate::http_client::HttpClient;

/// More than any token request or answer holds.
pub(super) const LIMIT: usize = 64 * 1024;

/// The secrets that a request carries, so that they can be left out of what is told of its answer.
pub(super) type Secrets = Vec<Zeroizing<String>>;

/// A request.
pub(super) struct Question<'a> {
    /// Who is asked, as an operator would say it: `the token endpoint`.
    pub(super) whom: &'a str,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) secrets: Secrets,
}

/// An answer, of whatever status.
pub(super) struct Reply<'a> {
    pub(super) whom: &'a str,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) secrets: Secrets,
}

impl<'a> Question<'a> {
    /// A GET that carries no secret but what is added to its headers.
    pub(super) fn get(whom: &'a str, url: Url, headers: HeaderMap) -> Self {
        Self { whom, method: Method::GET, url, headers, body: Zeroizing::default(), secrets: Vec::new() }
    }

    /// A POST of a form.
    pub(super) fn form(whom: &'a str, url: Url, body: Zeroizing<Vec<u8>>, secrets: Secrets) -> Self {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        Self { whom, method: Method::POST, url, headers, body, secrets }
    }

    /// Sends the request, once, and reads the answer whole.
    pub(super) async fn ask(self, client: &HttpClient) -> Result<Reply<'a>, FetchError> {
        let Self { whom, method, url, headers, body, secrets } = self;
        // The bytes are wiped when the last who holds them lets go.
        let sent = client.send(method, url, headers, Bytes::from_owner(body)).await;
        let answer = sent.map_err(|error| FetchError::Unanswered(format!("{whom}: {error}")))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body =
            answer.body(LIMIT).await.map_err(|error| FetchError::Unusable(format!("{whom}: {error}")))?;
        Ok(Reply { whom, status, headers, body: Zeroizing::new(body), secrets })
    }
}
