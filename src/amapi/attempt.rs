//! One attempt of one request: a place in the queue, the token, the request, and what its answer means.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Method, Url};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Json,
    error::{Answer, Error},
    google_error::GoogleError,
    retry::{Attempted, Failed, Next},
    retry_after,
};
use crate::{
    budget::Budget,
    credentials::{Authorization, Credential},
    http_client::{self, BodyError, Failure, HttpClient, Progress},
};

/// The longest body that is read.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// The most requests on their way at once. Google's front ends allow 100 streams on a connection and the
/// rest waits inside the HTTP/2 client; this bounds connections where the upstream speaks HTTP/1.1.
const MAX_IN_FLIGHT: usize = 256;

/// How long the rest of a body that nobody needs is read, so that its connection stays clean.
const DISCARD_TIME: Duration = Duration::from_secs(1);
const DISCARD_LIMIT: usize = 64 * 1024;

/// The upstream: where, and how many at once.
pub(super) struct Upstream {
    client: HttpClient,
    /// The URL up to the name, `https://androidmanagement.googleapis.com/v1/`.
    base: Url,
    slots: Semaphore,
}

impl Upstream {
    pub(super) fn new(client: HttpClient, mut base: Url) -> Self {
        let version = format!("{}/v1/", base.path().trim_end_matches('/'));
        base.set_path(&version);
        Self { client, base, slots: Semaphore::new(MAX_IN_FLIGHT) }
    }

    /// `{base}/v1/{name}{verb}`. A name that parsed has only characters that a path keeps as they are.
    pub(super) fn url(&self, name: &str, verb: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&[url.path(), name, verb].concat());
        url
    }

    /// Sends a request without a body, with a token of `credential`; once, or twice when the token has to
    /// be renewed in between.
    pub(super) async fn attempt(
        &self,
        method: Method,
        url: &Url,
        credential: &Credential,
        budget: &Budget,
    ) -> Attempted<http_client::Answer> {
        let mut sending = Sending { upstream: self, method, url, credential, budget, sent: 0, status: None };
        let result = sending.run().await;
        Attempted { result, sent: sending.sent, status: sending.status }
    }
}

/// One attempt under way.
struct Sending<'a> {
    upstream: &'a Upstream,
    method: Method,
    url: &'a Url,
    credential: &'a Credential,
    budget: &'a Budget,
    sent: u32,
    status: Option<u16>,
}

impl Sending<'_> {
    async fn run(&mut self) -> Result<http_client::Answer, Failed> {
        let queued = self.budget.begin(self.upstream.slots.acquire()).await;
        let _slot = queued.map_err(|_| late("in the queue for the upstream"))?;

        let waiting = self.budget.begin(self.credential.authorization()).await;
        let authorization = waiting.map_err(|_| late("while a token was being fetched"))?;
        let authorization = authorization.map_err(no_token)?;

        match self.send(&authorization).await {
            // Boxed, as is all that seldom happens: a call should not carry the room for it.
            Err(Failed { error: Error::CredentialRejected(answer), .. }) => {
                Box::pin(self.send_renewed(&authorization, answer)).await
            }
            other => other,
        }
    }

    /// Google's 401 is about our credential: one fresh token, one more try.
    async fn send_renewed(
        &mut self,
        rejected: &Authorization,
        answer: Answer,
    ) -> Result<http_client::Answer, Failed> {
        let waiting = self.budget.begin(self.credential.renewed(rejected)).await;
        let renewed = waiting.map_err(|_| late("while the token was being renewed"))?;
        match renewed.map_err(no_token)? {
            Some(authorization) => self.send(&authorization).await,
            None => Err(Failed { error: Error::CredentialRejected(answer), next: Next::Stop }),
        }
    }

    async fn send(&mut self, authorization: &Authorization) -> Result<http_client::Answer, Failed> {
        let mut headers = HeaderMap::from_iter([(header::AUTHORIZATION, authorization.header())]);
        if let Some(project) = authorization.quota_project() {
            headers.insert("x-goog-user-project", project.clone());
        }
        if self.method == Method::POST {
            // Google refuses a POST of HTTP/1.1 that does not say how long it is.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let request = self.upstream.client.send(self.method.clone(), self.url.clone(), headers, "");
        self.sent += 1;
        self.budget.sending(self.credential.name());
        let sent = self.budget.carry(request).await;
        let answer = sent.map_err(|_| late("before the upstream answered"))?.map_err(unanswered)?;
        self.status = Some(answer.status().as_u16());
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(Box::pin(self.refused(answer, authorization)).await)
        }
    }

    /// What an answer that is not 2xx means.
    async fn refused(&self, answer: http_client::Answer, authorization: &Authorization) -> Failed {
        let status = answer.status();
        let http_status = status.as_u16();
        if !status.is_client_error() && !status.is_server_error() {
            let what =
                if status.is_redirection() { "a redirect" } else { "a status that HTTP does not know" };
            return stop(Error::Malformed { what, http_status });
        }
        let retry_after = answer
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, SystemTime::now()));
        let passing = matches!(
            status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        );
        let next =
            if passing { Next::Retry { not_before: retry_after.unwrap_or_default() } } else { Next::Stop };
        let body = match self.budget.carry(answer.body(MAX_BODY)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return Failed { error: unreadable(error, http_status), next },
            Err(_) => return late("before the upstream's answer was whole"),
        };
        // What quotes our token goes neither to the log nor to a caller.
        let google = GoogleError::parse(&body);
        let google = google.map(|error| Arc::new(error.redacted(authorization.redactor())));
        let answer = Answer { http_status, google, retry_after };
        if answer.rejects_credential() {
            return stop(Error::CredentialRejected(answer));
        }
        Failed { error: Error::Answered(answer), next }
    }
}

/// Lets go of an answer whose body nobody needs. The rest of it is read, within bounds, since a stream
/// that is dropped half way would be reset, and a connection of HTTP/1.1 be closed.
pub(super) fn discard(answer: http_client::Answer) {
    let mut rest = Box::pin(answer.body(DISCARD_LIMIT));
    if rest.as_mut().now_or_never().is_none() {
        tokio::spawn(timeout(DISCARD_TIME, rest));
    }
}

/// The JSON object that an answer is.
pub(super) async fn read_object(answer: http_client::Answer, budget: &Budget) -> Result<Json, Error> {
    let http_status = answer.status().as_u16();
    let body = budget.carry(answer.body(MAX_BODY)).await;
    let late = Error::DeadlineExceeded { while_doing: "before the upstream's answer was whole" };
    let body = body.map_err(|_| late)?.map_err(|error| unreadable(error, http_status))?;
    serde_json::from_slice(&body).map_err(|_| Error::Malformed { what: "malformed JSON", http_status })
}

fn stop(error: Error) -> Failed {
    Failed { error, next: Next::Stop }
}

fn late(while_doing: &'static str) -> Failed {
    stop(Error::DeadlineExceeded { while_doing })
}

fn no_token(unavailable: crate::credentials::Unavailable) -> Failed {
    stop(Error::CredentialUnavailable { retry_after: unavailable.retry_after })
}

fn unanswered(failure: Failure) -> Failed {
    let cause = failure.to_string();
    let retry = Next::Retry { not_before: Duration::ZERO };
    match failure.progress {
        Progress::NotConnected | Progress::Unknown => {
            Failed { error: Error::Unreachable { cause }, next: retry }
        }
        Progress::NotProcessed => Failed { error: Error::Unreachable { cause }, next: Next::Requeue },
        Progress::NotHttp => stop(Error::NotHttp { cause }),
    }
}

fn unreadable(error: BodyError, http_status: u16) -> Error {
    match error {
        BodyError::TooLong(_) => Error::Malformed { what: "a body of more than 4 MiB", http_status },
        BodyError::BrokenOff(cause) => Error::Unreachable { cause },
    }
}
