//! The state that all credentials share: the trusted authorities, the proxy, the URL of IAM Credentials, and the HTTP clients.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use reqwest::Url;

use super::token::{FetchError, FetchErrorKind};
use crate::http_client::{Authorities, HttpClient, ProxySettings};

/// The URL of Google's IAM Credentials API (its discovery document, `rootUrl`).
pub const IAM_CREDENTIALS: &str = "https://iamcredentials.googleapis.com";

/// Shared by all credentials of the process, as an `Arc`.
///
/// There is one HTTP client per origin, so that service accounts with the same token endpoint share one TLS
/// configuration and one connection.
pub struct Surroundings {
    authorities: Authorities,
    proxy: ProxySettings,
    iam: Url,
    clients: Mutex<HashMap<UrlOrigin, HttpClient>>,
}

/// The scheme, host and port of a URL.
type UrlOrigin = (String, String, Option<u16>);

impl Surroundings {
    /// `authorities` are trusted for every endpoint, and `proxy` applies to each. `iam` is the URL of IAM Credentials, [`IAM_CREDENTIALS`] outside
    /// tests.
    #[must_use]
    pub fn new(authorities: Authorities, proxy: ProxySettings, iam: Url) -> Self {
        Self { authorities, proxy, iam, clients: Mutex::default() }
    }

    /// The URL of IAM Credentials.
    pub(super) fn iam(&self) -> &Url {
        &self.iam
    }

    /// The number of clients.
    #[cfg(test)]
    pub(super) fn clients(&self) -> usize {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The client of the URL's origin, made on first use.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub(super) fn client(&self, url: &Url) -> Result<HttpClient, FetchError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let origin = (url.scheme().to_owned(), host, url.port_or_known_default());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&origin) {
            return Ok(client.clone());
        }
        let client = HttpClient::new(url, &self.authorities, &self.proxy);
        let client = client.map_err(|error| FetchError::new(FetchErrorKind::Internal, error.to_string()))?;
        clients.insert(origin, client.clone());
        Ok(client)
    }
}
