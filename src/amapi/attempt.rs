//! One attempt: a slot, the token, the request, and the meaning of its response.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Method, Url};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{
    error::{Answer, Error},
    google_error::GoogleError,
    retry::{Failed, Next, retry_after},
    unreadable,
};
use crate::{
    credentials::{Authorization, Credential, Unavailable},
    flight::{Flight, Late},
    http_client::{BodyError, Failure, HttpClient, OnSent, Progress},
};

/// The longest body that is read.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// The most requests that are sent at once. Google's front ends allow 100 streams on a connection, and the rest waits
/// inside the HTTP/2 client. The bound is for connections to an upstream that speaks HTTP/1.1.
const MAX_IN_FLIGHT: usize = 256;

/// The time for the body of a successful cancel. A body that has not ended by then counts as broken off.
const CANCEL_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// The upstream: its URL, its timeout, and the slots for requests.
pub(super) struct Upstream {
    client: HttpClient,
    /// The URL up to the name, `https://androidmanagement.googleapis.com/v1/`.
    base: Url,
    timeout: Duration,
    slots: Semaphore,
}

/// A response with a 2xx status.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) http_status: u16,
    pub(super) body: Result<Vec<u8>, BodyError>,
}

impl Upstream {
    pub(super) fn new(client: HttpClient, mut base: Url, timeout: Duration) -> Self {
        let path = format!("{}/v1/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        Self { client, base, timeout, slots: Semaphore::new(MAX_IN_FLIGHT) }
    }

    /// `{base}/v1/{name}{verb}`. A name that parsed has only characters that a path keeps as they are.
    pub(super) fn url(&self, name: &str, verb: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&[url.path(), name, verb].concat());
        url
    }

    /// Sends a request without a body, with a token of `credential`; a second time when Google rejects the token.
    pub(super) async fn attempt(
        &self,
        method: &Method,
        url: &(impl Fn() -> Url + Sync),
        credential: &Credential,
        flight: &Arc<Flight>,
    ) -> Result<Response, Failed> {
        let _slot = self.slot(flight).await?;
        let authorization = flight.begin(credential.authorization()).await;
        let authorization = authorization.map_err(|_| late("while a token was being fetched"))?;
        let authorization = authorization.map_err(no_token)?;
        match self.send(method, url(), &authorization, flight).await {
            // Boxed, because the future of every call should not have room for what is rare.
            Err(Failed { error: Error::CredentialRejected(answer), .. }) => {
                let renewed = Box::pin(renewed(credential, &authorization, answer, flight)).await?;
                self.send(method, url(), &renewed, flight).await
            }
            result => result,
        }
    }

    async fn slot(&self, flight: &Flight) -> Result<SemaphorePermit<'_>, Failed> {
        if let Ok(slot) = self.slots.try_acquire() {
            return Ok(slot);
        }
        match Box::pin(flight.begin(self.slots.acquire())).await {
            Ok(Ok(slot)) => Ok(slot),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(late("in the queue for the upstream")),
        }
    }

    async fn send(
        &self,
        method: &Method,
        url: Url,
        authorization: &Authorization,
        flight: &Arc<Flight>,
    ) -> Result<Response, Failed> {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::AUTHORIZATION, authorization.header());
        if let Some(project) = authorization.quota_project() {
            headers.insert("x-goog-user-project", project.clone());
        }
        let is_cancel = method == Method::POST;
        if is_cancel {
            // Google refuses a POST over HTTP/1.1 without a length.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let request = self.client.send_empty(method.clone(), url, headers, Arc::clone(flight));
        // Pinned here, because each function that took it by value would have room for it twice.
        let exchange = pin!(async {
            let response = request.await.map_err(no_response)?;
            let status = response.status();
            flight.responded(status.as_u16());
            if !status.is_success() {
                return Err(Box::pin(refused(response, authorization)).await);
            }
            let body = response.body(MAX_BODY);
            let body = if is_cancel {
                let late = || BodyError::BrokenOff("it did not end in time".to_owned());
                timeout(CANCEL_BODY_TIMEOUT, body).await.unwrap_or_else(|_| Err(late()))
            } else {
                body.await
            };
            if let Some(google) = body.as_ref().ok().and_then(|body| stated_error(body)) {
                let google = Some(Arc::new(google.redacted(authorization.redactor())));
                let answer = Answer { http_status: status.as_u16(), google, retry_after: None };
                return Err(stop(match answer.rejects_credential() {
                    true => Error::CredentialRejected(answer),
                    false => Error::Answered(answer),
                }));
            }
            Ok(Response { http_status: status.as_u16(), body })
        });
        match flight.send(self.timeout, exchange).await {
            Ok(result) => result,
            Err(Late::Unsent) => Err(late("before anything was sent to the upstream")),
            Err(Late::Unanswered) => {
                let error = Error::DeadlineExceeded { while_doing: "before the upstream answered" };
                Err(Failed { error, next: Next::Retry { not_before: Duration::ZERO } })
            }
        }
    }
}

/// The flight counts a request as sent when the HTTP client hands it to a connection.
impl OnSent for Flight {
    fn sent(&self) {
        Self::sent(self);
    }
}

/// Google's 401 is about our credential: a fresh token for a second request. An error when there is none, or when
/// the rejected token was itself fetched after a rejection moments ago.
async fn renewed(
    credential: &Credential,
    rejected: &Authorization,
    answer: Answer,
    flight: &Flight,
) -> Result<Authorization, Failed> {
    let renewed = flight.begin(credential.renewed(rejected)).await;
    let renewed = renewed.map_err(|_| late("while the token was being renewed"))?;
    renewed.map_err(no_token)?.ok_or_else(|| stop(Error::CredentialRejected(answer)))
}

/// The meaning of a response whose status is not 2xx.
async fn refused(response: crate::http_client::Response, authorization: &Authorization) -> Failed {
    let status = response.status();
    let http_status = status.as_u16();
    if !status.is_client_error() && !status.is_server_error() {
        let what = if status.is_redirection() { "a redirect" } else { "a status that HTTP does not know" };
        return stop(Error::Malformed { what, http_status });
    }
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
    let is_transient = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let next = match is_transient {
        true => Next::Retry { not_before: retry_after.unwrap_or_default() },
        false => Next::Stop,
    };
    let body = match response.body(MAX_BODY).await {
        Ok(body) => body,
        Err(error) => return Failed { error: unreadable(error, http_status), next },
    };
    // Neither the log nor a caller sees text that quotes our token.
    let google = GoogleError::parse(&body);
    let google = google.map(|error| Arc::new(error.redacted(authorization.redactor())));
    let answer = Answer { http_status, google, retry_after };
    if answer.rejects_credential() {
        return stop(Error::CredentialRejected(answer));
    }
    Failed { error: Error::Answered(answer), next }
}

/// The error that the body of a 2xx states, `{"error": {…}}`. An operation has an `error` too, beside its `name`.
fn stated_error(body: &[u8]) -> Option<GoogleError> {
    let members = body.trim_ascii_start().strip_prefix(b"{")?;
    // Most bodies are an operation or empty, and are not parsed here.
    if !members.trim_ascii_start().starts_with(b"\"error\"") {
        return None;
    }
    let object: super::Json = serde_json::from_slice(body).ok()?;
    if object.len() > 1 { None } else { GoogleError::parse(body) }
}

fn stop(error: Error) -> Failed {
    Failed { error, next: Next::Stop }
}

fn late(while_doing: &'static str) -> Failed {
    stop(Error::DeadlineExceeded { while_doing })
}

fn no_token(unavailable: Unavailable) -> Failed {
    stop(Error::CredentialUnavailable { retry_after: unavailable.retry_after })
}

fn no_response(failure: Failure) -> Failed {
    let cause = failure.to_string();
    match failure.progress {
        Progress::NotConnected | Progress::Unknown => {
            Failed { error: Error::Unreachable { cause }, next: Next::Retry { not_before: Duration::ZERO } }
        }
        Progress::NotProcessed => Failed { error: Error::Unreachable { cause }, next: Next::Requeue },
        Progress::NotHttp => stop(Error::NotHttp { cause }),
    }
}
