//! Where an issuer publishes its keys.

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Method, Url};
use zeroize::Zeroizing;

use super::{InvalidKeySet, refresh::Source};
use crate::file_watch;
use crate::http_client::{Authorities, BodyError, Failure, HttpClient, tls::TlsError};

/// Far more than any issuer's keys.
const MAX_BODY: usize = 256 * 1024;

/// What such an endpoint answers (RFC 7517, section 8.5), and what most of them call it.
const ACCEPTED: HeaderValue = HeaderValue::from_static("application/jwk-set+json, application/json");

/// An HTTPS endpoint that serves a key set.
pub(crate) struct Endpoint {
    client: HttpClient,
    url: Url,
    token_file: Option<PathBuf>,
}

/// Why a key set could not be fetched. `Display` is for the log: it may name addresses and files, never
/// anything of a token or a body.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// No connection, or none that led to an answer.
    #[error("the endpoint gave no answer: {0}")]
    Unanswered(#[from] Failure),
    /// No whole answer in time.
    #[error("the endpoint did not answer in time")]
    Late,
    /// Something else than 200. A redirect is not followed.
    #[error("the endpoint answered HTTP {0}")]
    Status(u16),
    /// The body is too long, or breaks off.
    #[error("of the endpoint's answer {0}")]
    Body(#[from] BodyError),
    /// The answer is no set of keys.
    #[error("what the endpoint answered {0}")]
    Unusable(#[from] InvalidKeySet),
    /// The token to show to the endpoint cannot be read.
    #[error("the token file {file:?} {problem}")]
    Token {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Endpoint {
    /// The endpoint at `url`, believed by the public roots and the certificates in `ca`. The bearer token
    /// in `token_file` is shown to it, read anew each time: Kubernetes replaces it every hour or so.
    ///
    /// # Errors
    ///
    /// The certificates of `ca` cannot be used.
    pub(crate) fn new(url: Url, ca: Option<&Path>, token_file: Option<PathBuf>) -> Result<Self, TlsError> {
        let client = HttpClient::new(&url, &Authorities::of(ca)?)?;
        Ok(Self { client, url, token_file })
    }
}

impl Source for Endpoint {
    async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        let mut headers = HeaderMap::from_iter([(header::ACCEPT, ACCEPTED)]);
        if let Some(file) = &self.token_file {
            headers.insert(header::AUTHORIZATION, authorization(file.clone()).await?);
        }
        let answer = self.client.send(Method::GET, self.url.clone(), headers, "").await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        Ok(answer.body(MAX_BODY).await?)
    }
}

/// The `authorization` header with the token in `file`.
async fn authorization(file: PathBuf) -> Result<HeaderValue, FetchError> {
    let wrong = |problem: String| FetchError::Token { file: file.clone(), problem };
    let path = file.clone();
    let read = tokio::task::spawn_blocking(move || file_watch::read(&path)).await;
    let token = read
        .map_err(|_| wrong("was not read: the process ends".to_owned()))?
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let bearer = Zeroizing::new([b"Bearer ", token.trim_ascii()].concat());
    let mut header = HeaderValue::from_bytes(&bearer)
        .map_err(|_| wrong("holds characters that no token has".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests;
