//! The client of the Android Management API: one method a call of the API.
//!
//! It takes a [`Permit`], which only the policy can make, and a [`Budget`], which bounds it. Retries are
//! in [`retry`], one attempt is in [`attempt`], and how it can end is in [`error`].

use std::path::Path;

use reqwest::{Method, Url};

use crate::{
    budget::Budget,
    credentials::Credential,
    http_client::{HttpClient, tls::TlsError},
    policy::Permit,
};

mod attempt;
pub mod error;
pub mod google_error;
mod retry;
mod retry_after;

use attempt::Upstream;
use error::Error;
use retry::Retries;

/// The API behind one base URL, called with one credential.
pub struct Amapi {
    upstream: Upstream,
    retries: Retries,
}

/// How a call ended, and what it took.
#[derive(Debug, Clone)]
pub struct Outcome<T> {
    /// What came of it.
    pub result: Result<T, Error>,
    /// How many times the request was sent.
    pub attempts: u32,
    /// The HTTP status of the last answer; none when there was no answer.
    pub upstream_status: Option<u16>,
}

impl Amapi {
    /// A client of the API at `base`; `ca` is trusted beside the public roots.
    ///
    /// # Errors
    ///
    /// The certificates of `ca` cannot be read or trusted.
    pub fn new(base: Url, ca: Option<&Path>, credential: Credential) -> Result<Self, TlsError> {
        let client = HttpClient::new(&base, ca)?;
        Ok(Self { upstream: Upstream::new(client, base, credential), retries: Retries::new() })
    }

    /// `POST /v1/{name}:cancel` with an empty body. Google starts a best-effort cancel and answers `{}`,
    /// of which only the 2xx is needed: the body is not looked at.
    ///
    /// A cancel is safe to repeat, so it is retried like a read: the command is called back or it is not,
    /// however often it is asked for, and none is ever issued by it. At worst a repeated cancel meets an
    /// operation that its predecessor already ended, and Google's answer says so.
    pub async fn cancel(&self, permit: &Permit, budget: &Budget) -> Outcome<()> {
        let url = self.upstream.url(permit.operation().as_str(), ":cancel");
        let attempt = || self.upstream.attempt(Method::POST, &url, budget);
        let outcome = self.retries.run(budget, attempt).await;
        Outcome {
            result: outcome.result.map(attempt::discard),
            attempts: outcome.attempts,
            upstream_status: outcome.upstream_status,
        }
    }
}
