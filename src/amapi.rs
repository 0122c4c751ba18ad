//! The client of the Android Management API: one method a call of the API.
//!
//! It takes a [`Permit`], which only the policy can make, and a [`Budget`], which bounds it. Retries are
//! in [`retry`], one attempt is in [`attempt`], and how it can end is in [`error`].

use std::{future::Future, sync::Arc};

use reqwest::{Method, Url};

use crate::{
    budget::Budget,
    credentials::Credentials,
    http_client::{self, Authorities, HttpClient, tls::TlsError},
    policy::{
        Permit,
        act::{Cancel, Get, List},
    },
};

mod attempt;
pub mod error;
pub mod google_error;
mod list_query;
mod retry;
mod retry_after;

pub use list_query::ListQuery;

use attempt::Upstream;
use error::Error;
use retry::Retries;

/// The API behind one base URL, called with the credential that serves the enterprise.
pub struct Amapi {
    credentials: Arc<Credentials>,
    upstream: Upstream,
    retries: Retries,
}

/// What the service asks of the API. Tests put one in its place that counts.
pub trait Api: Send + Sync + 'static {
    /// `POST /v1/{name}:cancel` with an empty body. Google starts a best-effort cancel and answers `{}`,
    /// of which only the 2xx is needed: the body is not looked at.
    ///
    /// A cancel is safe to repeat, so it is retried like a read: the command is called back or it is not,
    /// however often it is asked for, and none is ever issued by it. At worst a repeated cancel meets an
    /// operation that its predecessor already ended, and Google's answer says so.
    fn cancel(&self, permit: &Permit<Cancel>, budget: &Budget) -> impl Future<Output = Outcome<()>> + Send;

    /// `GET /v1/{name}`: an Operation, as Google's JSON has it.
    fn get(&self, permit: &Permit<Get>, budget: &Budget) -> impl Future<Output = Outcome<Json>> + Send;

    /// `GET /v1/{device}/operations`: `{operations, nextPageToken, unreachable}`, as Google's JSON has it.
    fn list(
        &self,
        permit: &Permit<List>,
        query: &ListQuery,
        budget: &Budget,
    ) -> impl Future<Output = Outcome<Json>> + Send;
}

/// A JSON object with its numbers as they were written.
pub type Json = serde_json::Map<String, serde_json::Value>;

/// How a call ended, and what it took.
#[derive(Debug, Clone)]
pub struct Outcome<T> {
    /// What came of it.
    pub result: Result<T, Error>,
    /// How many times the request was sent.
    pub attempts: u32,
    /// The HTTP status of the last answer; none when there was no answer.
    pub upstream_status: Option<u16>,
    /// The name of the credential that it carried; none when none serves the enterprise.
    pub credential: Option<Arc<str>>,
}

impl Amapi {
    /// A client of the API at `base`; it is believed by `authorities`.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(
        base: Url,
        authorities: &Authorities,
        credentials: Arc<Credentials>,
    ) -> Result<Self, TlsError> {
        let client = HttpClient::new(&base, authorities)?;
        Ok(Self { credentials, upstream: Upstream::new(client, base), retries: Retries::new() })
    }

    async fn call(
        &self,
        method: Method,
        url: Url,
        enterprise: &str,
        budget: &Budget,
    ) -> Outcome<http_client::Answer> {
        let Some(credential) = self.credentials.serving(enterprise) else {
            let result = Err(Error::NoCredential);
            return Outcome { result, attempts: 0, upstream_status: None, credential: None };
        };
        let attempt = || self.upstream.attempt(method.clone(), &url, credential, budget);
        let outcome = self.retries.run(budget, attempt).await;
        Outcome { credential: Some(Arc::clone(credential.name())), ..outcome }
    }

    async fn read(&self, url: Url, enterprise: &str, budget: &Budget) -> Outcome<Json> {
        let Outcome { result, attempts, upstream_status, credential } =
            self.call(Method::GET, url, enterprise, budget).await;
        let result = match result {
            Ok(answer) => attempt::read_object(answer, budget).await,
            Err(error) => Err(error),
        };
        Outcome { result, attempts, upstream_status, credential }
    }
}

impl Api for Amapi {
    async fn cancel(&self, permit: &Permit<Cancel>, budget: &Budget) -> Outcome<()> {
        let name = permit.resource();
        let url = self.upstream.url(name.as_str(), ":cancel");
        let sent = self.call(Method::POST, url, name.enterprise(), budget).await;
        sent.and_then(|answer| {
            attempt::discard(answer);
            Ok(())
        })
    }

    async fn get(&self, permit: &Permit<Get>, budget: &Budget) -> Outcome<Json> {
        let name = permit.resource();
        self.read(self.upstream.url(name.as_str(), ""), name.enterprise(), budget).await
    }

    async fn list(&self, permit: &Permit<List>, query: &ListQuery, budget: &Budget) -> Outcome<Json> {
        let name = permit.resource();
        let mut url = self.upstream.url(name.as_str(), "/operations");
        query.write(&mut url);
        self.read(url, name.enterprise(), budget).await
    }
}

impl<T> Outcome<T> {
    /// An end without a request, or without knowledge of one.
    pub(crate) fn unsent(error: Error) -> Self {
        Self { result: Err(error), attempts: 0, upstream_status: None, credential: None }
    }

    /// The same, with what `then` makes of a good result.
    pub(crate) fn and_then<U>(self, then: impl FnOnce(T) -> Result<U, Error>) -> Outcome<U> {
        let Self { result, attempts, upstream_status, credential } = self;
        Outcome { result: result.and_then(then), attempts, upstream_status, credential }
    }
}
