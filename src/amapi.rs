//! The client of the Android Management API (AMAPI): one method for each call of the API.
//!
//! A call takes a [`Permit`], which only `policy` makes, and a [`Flight`], which bounds the call and keeps its
//! account. [`Amapi::call`] reads top to bottom: credential → attempt → retry. One attempt is in `attempt`: slot →
//! token → send → classify the response.

use std::{future::Future, sync::Arc, time::Duration};

use reqwest::{Method, Url};
use serde_json::Value;

use crate::{
    credentials::Credentials,
    flight::Flight,
    http_client::{Authorities, BodyError, HttpClient, tls::TlsError},
    policy::{
        Permit,
        action::{Cancel, Get, List},
    },
};

mod attempt;
pub mod error;
pub mod google_error;
mod list_query;
mod retry;
pub mod settings;

pub use list_query::ListQuery;

use attempt::{Response, Upstream};
use error::Error;
use retry::Retries;

/// The API behind one base URL, called with the credential that serves the enterprise.
pub struct Amapi {
    credentials: Arc<Credentials>,
    upstream: Upstream,
    retries: Retries,
}

/// The calls of the API. Tests implement it without sockets.
pub trait Api: Send + Sync + 'static {
    /// `POST /v1/{name}:cancel` with an empty body. Google starts a best-effort cancel and answers
    /// `{}`. A 2xx with another body than none or a JSON object did not come from the API.
    ///
    /// A cancel is safe to repeat, so it is retried like a read: the command is cancelled or it is not, however often
    /// the cancel is sent, and no command is ever issued by it. At worst a repeated cancel meets an operation that
    /// its predecessor already ended, and Google's response says so.
    fn cancel(
        &self,
        permit: &Permit<Cancel>,
        flight: &Arc<Flight>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// `GET /v1/{name}`: an Operation in Google's JSON.
    fn get(
        &self,
        permit: &Permit<Get>,
        flight: &Arc<Flight>,
    ) -> impl Future<Output = Result<Json, Error>> + Send;

    /// `GET /v1/{device}/operations`: `{operations, nextPageToken, unreachable}` in Google's JSON.
    fn list(
        &self,
        permit: &Permit<List>,
        query: &ListQuery,
        flight: &Arc<Flight>,
    ) -> impl Future<Output = Result<Json, Error>> + Send;
}

/// A JSON object that keeps each number as it was written.
pub type Json = serde_json::Map<String, Value>;

impl Amapi {
    /// A client of the API at `base`, which `authorities` vouch for.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(
        base: Url,
        authorities: &Authorities,
        credentials: Arc<Credentials>,
        upstream_timeout: Duration,
    ) -> Result<Self, TlsError> {
        let client = HttpClient::new(&base, authorities)?;
        Ok(Self {
            credentials,
            upstream: Upstream::new(client, base, upstream_timeout),
            retries: Retries::new(),
        })
    }

    /// Sends a request without a body to the URL that `url` builds, with the credential that serves `enterprise`.
    async fn call(
        &self,
        method: Method,
        url: impl Fn() -> Url + Sync,
        enterprise: &str,
        flight: &Arc<Flight>,
    ) -> Result<Response, Error> {
        let credential = self.credentials.serving(enterprise).ok_or(Error::NoCredential)?;
        flight.use_credential(credential.name());
        let attempt = || self.upstream.attempt(&method, &url, credential, flight);
        self.retries.run(flight, attempt).await
    }

    async fn read(
        &self,
        url: impl Fn() -> Url + Sync,
        enterprise: &str,
        flight: &Arc<Flight>,
    ) -> Result<Json, Error> {
        let Response { http_status, body } = self.call(Method::GET, url, enterprise, flight).await?;
        let body = body.map_err(|error| unreadable(error, http_status))?;
        serde_json::from_slice(&body).map_err(|_| Error::Malformed { what: "malformed JSON", http_status })
    }
}

impl Api for Amapi {
    async fn cancel(&self, permit: &Permit<Cancel>, flight: &Arc<Flight>) -> Result<(), Error> {
        let name = permit.resource();
        let url = || self.upstream.url(name.as_str(), ":cancel");
        let Response { http_status, body } = self.call(Method::POST, url, name.enterprise(), flight).await?;
        match body {
            Ok(body) if is_cancelled(&body) => Ok(()),
            // A filtering proxy, for example, answers 200 with a page of its own.
            Ok(_) => Err(Error::Malformed { what: "a body that is not a JSON object", http_status }),
            // Google has accepted the cancel, and the rest of its response would not change that.
            Err(BodyError::BrokenOff(_)) => Ok(()),
            Err(error @ BodyError::TooLong(_)) => Err(unreadable(error, http_status)),
        }
    }

    async fn get(&self, permit: &Permit<Get>, flight: &Arc<Flight>) -> Result<Json, Error> {
        let name = permit.resource();
        self.read(|| self.upstream.url(name.as_str(), ""), name.enterprise(), flight).await
    }

    async fn list(
        &self,
        permit: &Permit<List>,
        query: &ListQuery,
        flight: &Arc<Flight>,
    ) -> Result<Json, Error> {
        let name = permit.resource();
        let url = || {
            let mut url = self.upstream.url(name.as_str(), "/operations");
            query.write(&mut url);
            url
        };
        self.read(url, name.enterprise(), flight).await
    }
}

/// Whether a cancel's 2xx has the body of the API: none, or a JSON object.
fn is_cancelled(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    body.is_empty() || body == b"{}" || serde_json::from_slice::<Json>(body).is_ok()
}

fn unreadable(error: BodyError, http_status: u16) -> Error {
    match error {
        BodyError::TooLong(_) => Error::Malformed { what: "a body of more than 4 MiB", http_status },
        BodyError::BrokenOff(cause) => Error::Unreachable { cause },
    }
}
