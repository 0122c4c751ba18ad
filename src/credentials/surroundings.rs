//! What all credentials share: whom they trust, where IAM Credentials is, and their connections.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use reqwest::Url;

use super::token::FetchError;
use crate::http_client::{Authorities, HttpClient};

/// Where Google's IAM Credentials API is (its discovery document, `rootUrl`).
pub const IAM_CREDENTIALS: &str = "https://iamcredentials.googleapis.com";

/// What every credential of the process is fetched with; shared as an `Arc`.
///
/// There is one HTTP client for each origin: five hundred service accounts of one token endpoint have one
/// TLS configuration, and one connection, among them.
pub struct Surroundings {
    authorities: Authorities,
    iam: Url,
    clients: Mutex<HashMap<Origin, HttpClient>>,
}

/// Scheme, host and port of a URL.
type Origin = (String, String, Option<u16>);

impl Surroundings {
    /// Every endpoint is believed by `authorities`; `iam` is where `generateAccessToken` is asked for,
    /// [`IAM_CREDENTIALS`] but for tests.
    #[must_use]
    pub fn new(authorities: Authorities, iam: Url) -> Self {
        Self { authorities, iam, clients: Mutex::default() }
    }

    /// Where `generateAccessToken` is asked for.
    pub(super) fn iam(&self) -> &Url {
        &self.iam
    }

    /// How many clients have been made.
    #[cfg(test)]
    pub(super) fn clients(&self) -> usize {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The client of the URL's origin, made when it is first asked for.
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
        let client = HttpClient::new(url, &self.authorities);
        let client = client.map_err(|error| FetchError::NotAsked(error.to_string()))?;
        clients.insert(origin, client.clone());
        Ok(client)
    }
}
