//! The client of the Android Management API (AMAPI): one method for each call of the API.
//!
//! A call takes a [`Permit`], which only `policy` creates, and a [`Flight`], which has the deadline and the record
//! of the call. [`Amapi::call`] reads top to bottom: credential → attempt → retry. One attempt is in `attempt`:
//! turn → slot → token → send → classify the response.

use std::{future::Future, sync::Arc, time::Duration};

use reqwest::{Method, Url};
use serde_json::Value;

use crate::{
    credentials::Credentials,
    flight::Flight,
    http_client::{Authorities, BodyError, HttpClient, ProxySettings, tls::TlsError},
    policy::{
        Permit,
        action::{Cancel, Get, List, ListAllDevices},
    },
    quota::Quota,
    telemetry::metrics::UpstreamMetrics,
};

mod attempt;
mod devices_page;
pub mod error;
pub mod google_error;
mod hedge;
mod list_query;
pub mod operator_error;
mod pending_request;
mod retry;
mod retry_budget;
pub mod settings;
mod turn;

pub use devices_page::{DevicesPage, MAX_DEVICES, MAX_UPSTREAM_TOKEN};
pub use list_query::ListQuery;

use attempt::{SuccessResponse, UpstreamCall, UpstreamClient};
use error::Error;
use retry::Tries;
use retry_budget::{RetryBudget, RetryUse};

/// The API behind one base URL, called with the credential that serves the enterprise.
pub struct Amapi {
    credentials: Arc<Credentials>,
    quota: Arc<Quota>,
    upstream: UpstreamClient,
    retry_budget: Arc<RetryBudget>,
}

/// The calls of the API. Tests implement this trait without sockets.
pub trait Api: Send + Sync + 'static {
    /// `POST /v1/{name}:cancel` with an empty body. Google starts a best-effort cancel and returns `{}`. A 2xx
    /// whose body is neither empty nor a JSON object did not come from the API.
    ///
    /// A cancel is idempotent, so it is retried like a read. It issues no command. A repeated cancel may find that
    /// the first one ended the operation; Google's response then reports that.
    fn cancel(
        &self,
        permit: &Permit<Cancel>,
        flight: &Arc<Flight>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// `GET /v1/{name}`. Returns an Operation in Google's JSON.
    fn get(
        &self,
        permit: &Permit<Get>,
        flight: &Arc<Flight>,
    ) -> impl Future<Output = Result<Json, Error>> + Send;

    /// `GET /v1/{device}/operations`. A query that is too long for a URL is not sent. Returns `{operations,
    /// nextPageToken, unreachable}` in Google's JSON.
    fn list(
        &self,
        permit: &Permit<List>,
        query: &ListQuery,
        flight: &Arc<Flight>,
    ) -> impl Future<Output = Result<Json, Error>> + Send;

    /// `GET /v1/{enterprise}/devices`. Returns the page with this token; an empty token is that of the first page.
    fn devices(
        &self,
        permit: &Permit<ListAllDevices>,
        page_token: &str,
        flight: &Arc<Flight>,
    ) -> impl Future<Output = Result<DevicesPage, Error>> + Send;
}

/// A JSON object that keeps the text of each number.
pub type Json = serde_json::Map<String, Value>;

impl Amapi {
    /// Builds a client of the API at `base`, whose certificate must be trusted by `authorities`. `proxy` may
    /// apply to it. `quota` paces the requests.
    ///
    /// # Errors
    ///
    /// The TLS configuration cannot be built.
    pub fn new(
        base: Url,
        authorities: &Authorities,
        proxy: &ProxySettings,
        credentials: Arc<Credentials>,
        upstream_timeout: Duration,
        metrics: &Arc<UpstreamMetrics>,
        quota: Arc<Quota>,
    ) -> Result<Self, TlsError> {
        let client = HttpClient::for_requests_of(upstream_timeout, &base, authorities, proxy)?;
        let retry_budget = Arc::new(RetryBudget::new());
        metrics.budget_available.read_value_with({
            let retry_budget = Arc::clone(&retry_budget);
            move || f64::from(retry_budget.available())
        });
        metrics.budget_exhausted.read_value_with({
            let retry_budget = Arc::clone(&retry_budget);
            move || retry_budget.exhaustions() as f64
        });
        Ok(Self {
            credentials,
            quota,
            upstream: UpstreamClient::new(client, base, upstream_timeout, Arc::clone(metrics)),
            retry_budget,
        })
    }

    /// Sends a request without a body to the URL that `url` builds, with the credential that serves `enterprise`.
    async fn call(
        &self,
        method: Method,
        url: impl Fn() -> Url + Sync,
        enterprise: &str,
        flight: &Arc<Flight>,
    ) -> Result<SuccessResponse, Error> {
        let credential = self.credentials.serving(enterprise).ok_or(Error::NoCredential)?;
        flight.use_credential(credential.name());
        let retry = if method == Method::POST { RetryUse::Cancel } else { RetryUse::Read };
        let tries = Tries::new(&self.retry_budget, flight, retry, self.upstream.metrics());
        let call =
            UpstreamCall { method: &method, url, credential, quota: &self.quota, flight, tries: &tries };
        tries.run(|| self.upstream.attempt(&call)).await
    }

    async fn read(
        &self,
        url: impl Fn() -> Url + Sync,
        enterprise: &str,
        flight: &Arc<Flight>,
    ) -> Result<Json, Error> {
        let SuccessResponse { http_status, is_encoded, body } =
            self.call(Method::GET, url, enterprise, flight).await?;
        let body = body.map_err(|error| body_error(error, http_status))?;
        let what = if is_encoded { ENCODED_BODY } else { "malformed JSON" };
        serde_json::from_slice(&body).map_err(|_| Error::Malformed { what, http_status })
    }
}

impl Api for Amapi {
    async fn cancel(&self, permit: &Permit<Cancel>, flight: &Arc<Flight>) -> Result<(), Error> {
        let name = permit.resource();
        let url = || self.upstream.url(name.as_str(), ":cancel");
        let SuccessResponse { http_status, is_encoded, body } =
            self.call(Method::POST, url, name.enterprise(), flight).await?;
        match body {
            Ok(body) if is_cancel_response(&body) => Ok(()),
            // For example, a filtering proxy returns its own page with HTTP 200.
            Ok(_) => {
                let what = if is_encoded { ENCODED_BODY } else { "a body that is not that of a cancel" };
                Err(Error::Malformed { what, http_status })
            }
            // Google has accepted the cancel. The rest of the body cannot change that.
            Err(BodyError::Incomplete(_)) => Ok(()),
            Err(error @ BodyError::TooLong(_)) => Err(body_error(error, http_status)),
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
        // Only a list has fields of any length. Its URL is checked before the list takes a slot and a token.
        let url = query.add_to(self.upstream.url(name.as_str(), "/operations"))?;
        self.read(|| url.clone(), name.enterprise(), flight).await
    }

    async fn devices(
        &self,
        permit: &Permit<ListAllDevices>,
        page_token: &str,
        flight: &Arc<Flight>,
    ) -> Result<DevicesPage, Error> {
        let name = permit.resource();
        let url = || devices_page::add_query(self.upstream.url(name.as_str(), "/devices"), page_token);
        DevicesPage::parse(&self.read(url, name.id(), flight).await?, name)
    }
}

/// The reason of an error for a body that was compressed, for example by a proxy.
const ENCODED_BODY: &str = "a body with a content-encoding";

/// Whether the body of a cancel's 2xx is from the API: empty, or a JSON object without `error`.
fn is_cancel_response(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    let has_no_error =
        || serde_json::from_slice::<Json>(body).is_ok_and(|object| !object.contains_key("error"));
    body.is_empty() || body == b"{}" || has_no_error()
}

fn body_error(error: BodyError, http_status: u16) -> Error {
    match error {
        BodyError::TooLong(_) => Error::BodyTooLong { http_status },
        BodyError::Incomplete(cause) => Error::Unreachable { cause },
    }
}
