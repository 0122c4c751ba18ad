//! One attempt: the turn in the quota's budget, a slot, the token, the request with its hedge, and the classification of the
//! response.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Method, Url};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::{
    body_error,
    error::{Error, ErrorResponse},
    google_error::GoogleError,
    hedge,
    pending_request::PendingRequest,
    retry::{FailedAttempt, Next, Tries, retry_after},
    turn::Turn,
};
use crate::{
    credentials::{Authorization, Credential, Unavailable},
    flight::{Flight, SendTimeout},
    http_client::{BodyError, HttpClient, OnSent, Pool, Progress, Response, SendError},
    proto::otlp::trace::span::SpanKind,
    quota::Quota,
    telemetry::{
        metrics::{RequestAttempt, UpstreamMetrics},
        traces::Span,
    },
};

/// The maximum length of a body.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// The maximum number of concurrent requests. It limits the connections to an upstream that speaks HTTP/1.1. With
/// HTTP/2, Google's servers allow 100 streams per connection, and other requests wait in the client.
const MAX_IN_FLIGHT: usize = 256;

/// The maximum number of concurrent requests of lists over all devices. They are part of [`MAX_IN_FLIGHT`]. The other
/// slots are left for cancels and gets. It also bounds the memory of the bodies.
const MAX_PARTS: usize = 128;

/// The maximum number of concurrent hedges, in addition to [`MAX_IN_FLIGHT`]. Requests on a silent connection can
/// hold all slots, and an HTTP/2 connection to Google has at most this many requests.
const MAX_HEDGES: usize = 100;

/// The maximum time between the turn of a request and its slot.
const MAX_TURN_AGE: Duration = Duration::from_secs(1);

/// The timeout of the body of a successful cancel. A body that has not ended by then is incomplete.
const CANCEL_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends requests to the upstream.
pub(super) struct UpstreamClient {
    client: HttpClient,
    /// The URL up to the name, `https://androidmanagement.googleapis.com/v1/`.
    base: Url,
    timeout: Duration,
    hedge_delay: Duration,
    slots: Semaphore,
    part_slots: Semaphore,
    hedge_slots: Arc<Semaphore>,
    metrics: Arc<UpstreamMetrics>,
}

/// A call of the API, which may take several attempts.
pub(super) struct UpstreamCall<'a, U> {
    pub(super) method: &'a Method,
    /// Builds the URL.
    pub(super) url: U,
    pub(super) credential: Credential,
    pub(super) quota: &'a Quota,
    pub(super) flight: &'a Arc<Flight>,
    pub(super) tries: &'a Tries<'a>,
}

impl<U> UpstreamCall<'_, U> {
    fn is_cancel(&self) -> bool {
        self.method == Method::POST
    }

    /// Waits for a token of the credential.
    async fn authorization(&self) -> Result<Authorization, FailedAttempt> {
        let flight = self.flight;
        let span = flight.trace().child(SpanKind::Internal, "token").map(|span| span.or_fail("no_token"));
        let authorization = flight.begin(self.credential.authorization()).await;
        let authorization =
            authorization.map_err(|_| deadline_exceeded("while a token was being fetched"))?;
        let authorization = authorization.map_err(token_unavailable)?;
        span.into_iter().for_each(Span::succeed);
        Ok(authorization)
    }

    /// Waits for the turn of the next request.
    async fn turn(&self) -> Result<Turn, FailedAttempt> {
        let project = self.quota.is_active().then(|| self.credential.project()).flatten();
        Turn::wait(self.quota, project, self.method, self.flight).await
    }
}

/// A request in flight, of at most [`MAX_IN_FLIGHT`].
struct Slot<'a> {
    _permit: SemaphorePermit<'a>,
    /// The permit of a request of a list over all devices, of at most [`MAX_PARTS`].
    _part_permit: Option<SemaphorePermit<'a>>,
    has_waited: bool,
}

/// A response with a 2xx status.
#[derive(Debug)]
pub(super) struct SuccessResponse {
    pub(super) http_status: u16,
    /// Whether the body is encoded, for example compressed, although no request has an `accept-encoding`.
    pub(super) is_encoded: bool,
    pub(super) body: Result<Vec<u8>, BodyError>,
}

impl UpstreamClient {
    pub(super) fn new(
        client: HttpClient,
        mut base: Url,
        timeout: Duration,
        metrics: Arc<UpstreamMetrics>,
    ) -> Self {
        let path = format!("{}/v1/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        Self {
            client,
            base,
            timeout,
            hedge_delay: hedge::delay(timeout),
            slots: Semaphore::new(MAX_IN_FLIGHT),
            part_slots: Semaphore::new(MAX_PARTS),
            hedge_slots: Arc::new(Semaphore::new(MAX_HEDGES)),
            metrics,
        }
    }

    pub(super) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// `{base}/v1/{name}{verb}`. A parsed name has only characters that a path does not escape.
    pub(super) fn url(&self, name: &str, verb: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&[url.path(), name, verb].concat());
        url
    }

    /// Sends the request of `call`. Renews the token and sends the request again when Google rejects the token. A hedge
    /// takes one of the tries.
    pub(super) async fn attempt(
        &self,
        call: &UpstreamCall<'_, impl Fn() -> Url + Sync>,
    ) -> Result<SuccessResponse, FailedAttempt> {
        // Without a token, no query is taken from the project's budget.
        let mut authorization = call.authorization().await?;
        let (turn, slot) = self.turn_and_slot(call).await?;
        if turn.has_waited || slot.has_waited {
            authorization = call.authorization().await?;
        }
        match self.send(call, turn, &authorization).await {
            // Boxed, because a rejection is rare and would enlarge the future of every call.
            Err(FailedAttempt { error: Error::CredentialRejected(response), .. }) => {
                drop(slot);
                Box::pin(self.repeat(call, &authorization, response)).await
            }
            result => result,
        }
    }

    /// Sends the request again with another token than `rejected`, which Google answered with `response`.
    async fn repeat(
        &self,
        call: &UpstreamCall<'_, impl Fn() -> Url + Sync>,
        rejected: &Authorization,
        response: ErrorResponse,
    ) -> Result<SuccessResponse, FailedAttempt> {
        let renewed = renewed(&call.credential, rejected, response, call.flight).await?;
        let (turn, _slot) = self.turn_and_slot(call).await.map_err(|failed| match failed.error {
            // Google received the first request, so QUOTA_BUDGET would be wrong.
            Error::QuotaBudget { retry_after, .. } => permanent(Error::CredentialUnavailable { retry_after }),
            _ => failed,
        })?;
        self.send(call, turn, &renewed).await
    }

    /// Waits for the turn of a request, then for a slot. If the slot took long, a paced request takes another turn.
    /// Otherwise, the requests that had their turns while the upstream did not respond would leave together. The request
    /// waits for that turn without a slot, because reads could hold all slots before a cancel.
    async fn turn_and_slot(
        &self,
        call: &UpstreamCall<'_, impl Fn() -> Url + Sync>,
    ) -> Result<(Turn, Slot<'_>), FailedAttempt> {
        let (flight, mut part_permit, mut has_waited) = (call.flight, None, false);
        loop {
            let turn = call.turn().await?;
            let since = Instant::now();
            if flight.is_part() && part_permit.is_none() {
                // Kept for the other turn, so that a part takes at most one more for a wait for these slots.
                let (permit, has_part_waited) = self.permit(&self.part_slots, flight).await?;
                (part_permit, has_waited) = (Some(permit), has_part_waited);
            }
            let (permit, has_slot_waited) = self.permit(&self.slots, flight).await?;
            has_waited |= has_slot_waited;
            if !turn.is_paced() || since.elapsed() < MAX_TURN_AGE {
                return Ok((turn, Slot { _permit: permit, _part_permit: part_permit, has_waited }));
            }
        }
    }

    /// Waits for one of these slots. Returns also whether there was none at once.
    async fn permit<'a>(
        &self,
        slots: &'a Semaphore,
        flight: &Flight,
    ) -> Result<(SemaphorePermit<'a>, bool), FailedAttempt> {
        if let Ok(permit) = slots.try_acquire() {
            return Ok((permit, false));
        }
        let _queued = self.metrics.queue();
        match Box::pin(flight.begin(slots.acquire())).await {
            Ok(Ok(permit)) => Ok((permit, true)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(deadline_exceeded("in the queue for the upstream")),
        }
    }

    async fn send(
        &self,
        call: &UpstreamCall<'_, impl Fn() -> Url + Sync>,
        turn: Turn,
        authorization: &Authorization,
    ) -> Result<SuccessResponse, FailedAttempt> {
        let UpstreamCall { method, url, flight, tries, .. } = call;
        let is_cancel = call.is_cancel();
        let attempts = flight.attempts();
        let pool = self.client.pool();
        let send_over = |pool: &Arc<Pool>, attempt| {
            let measurement = self.metrics.start(is_cancel, attempt);
            let (url, mut headers) = (url(), headers(method, authorization));
            let pending = PendingRequest::new(measurement, method, &url, flight);
            pending.inject(&mut headers);
            pool.send_empty((*method).clone(), url, headers, Arc::clone(flight))
                .inspect(|result| pending.end(result))
        };
        let mut is_decided = false;
        let hedge = || {
            let sent = flight.sent_since(attempts).filter(|_| !is_decided)?;
            if sent.elapsed() < self.hedge_delay {
                return None;
            }
            is_decided = true;
            if flight.time_left().is_zero() || !pool.is_silent_since(sent) {
                return None;
            }
            let slot = Arc::clone(&self.hedge_slots).try_acquire_owned().ok()?;
            if !tries.take() {
                return None;
            }
            let replacement = self.client.replacement(&pool).inspect_err(|error| {
                let trace_id = flight.trace().id.map(tracing::field::display);
                tracing::warn!(trace_id, %error, "failed to build an HTTP client: a request on a silent connection is not sent again");
            });
            let replacement = replacement.ok()?;
            let (silent, send_over) = (Arc::clone(&pool), &send_over);
            let request = async move {
                let _slot = slot;
                // Without a turn, the first request decides.
                let turn = call.turn().await.ok()?;
                // Another response may have arrived during the wait for the turn.
                if !silent.is_silent_since(sent) {
                    return None;
                }
                self.metrics.hedges.inc();
                let request = send_over(&replacement, RequestAttempt::Hedge);
                // Like the first request, a hedge is not sent after the deadline.
                let response = match flight.send(self.timeout, self.timeout, request).await {
                    Ok(response) => response.map_err(send_failed),
                    Err(timeout) => Err(timed_out(timeout)),
                };
                if response.is_ok() {
                    self.client.replace(&silent, replacement, sent);
                }
                Some(response.map(|response| (response, turn)))
            };
            Some(request.boxed())
        };
        // Pinned here, because each function that takes the future by value would store it twice.
        let exchange = pin!(async {
            let number = RequestAttempt::Number(tries.number());
            let request = async {
                let response = send_over(&pool, number).await.map_err(send_failed)?;
                Ok((response, turn))
            };
            let (response, turn) = hedge::first_success(pin!(request), hedge).await?;
            let status = response.status();
            flight.responded(status.as_u16());
            let result = if status.is_success() {
                success_response(response, is_cancel, authorization).await
            } else {
                Err(Box::pin(error_response(response, authorization)).await)
            };
            turn.report(status.as_u16(), &result);
            result
        });
        flight.exchange_started();
        let result = flight.send(self.timeout, self.hedge_delay, exchange).await;
        flight.exchange_ended();
        result.map_err(timed_out)?
    }
}

fn headers(method: &Method, authorization: &Authorization) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::AUTHORIZATION, authorization.header());
    if let Some(project) = authorization.quota_project() {
        headers.insert("x-goog-user-project", project.clone());
    }
    if method == Method::POST {
        // Google rejects a POST over HTTP/1.1 without a length.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    headers
}

/// The flight counts a request when the HTTP client hands it to a connection.
impl OnSent for Flight {
    fn sent(&self) {
        Self::sent(self);
    }
}

/// Renews a token that Google rejected. Fails when no other token is available, or when the rejected token was
/// fetched after a recent rejection.
async fn renewed(
    credential: &Credential,
    rejected: &Authorization,
    response: ErrorResponse,
    flight: &Flight,
) -> Result<Authorization, FailedAttempt> {
    let renewed = flight.begin(credential.renewed(rejected)).await;
    let renewed = renewed.map_err(|_| deadline_exceeded("while the token was being renewed"))?;
    renewed.map_err(token_unavailable)?.ok_or_else(|| permanent(Error::CredentialRejected(response)))
}

/// Reads the body of a response whose status is 2xx.
async fn success_response(
    response: Response,
    is_cancel: bool,
    authorization: &Authorization,
) -> Result<SuccessResponse, FailedAttempt> {
    let http_status = response.status().as_u16();
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    let is_encoded = encoding.is_some_and(|encoding| encoding != "identity");
    let body = response.body(MAX_BODY);
    let body = if is_cancel {
        let timed_out = || BodyError::Incomplete("it timed out".to_owned());
        timeout(CANCEL_BODY_TIMEOUT, body).await.unwrap_or_else(|_| Err(timed_out()))
    } else {
        body.await
    };
    if let Some(google) = body.as_ref().ok().and_then(|body| error_in_success(body)) {
        let google = Some(Arc::new(google.redacted(authorization.redactor())));
        let response = ErrorResponse { http_status, google, retry_after: None };
        return Err(permanent(match response.rejects_credential() {
            true => Error::CredentialRejected(response),
            false => Error::Response(response),
        }));
    }
    Ok(SuccessResponse { http_status, is_encoded, body })
}

/// Classifies a response whose status is not 2xx.
async fn error_response(response: Response, authorization: &Authorization) -> FailedAttempt {
    let status = response.status();
    let http_status = status.as_u16();
    if !status.is_client_error() && !status.is_server_error() {
        let what = if status.is_redirection() { "a redirect" } else { "an invalid HTTP status" };
        return permanent(Error::Malformed { what, http_status });
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
        Err(error) => return FailedAttempt { error: body_error(error, http_status), next },
    };
    // Neither the log nor a caller may get a text that contains the token.
    let google = GoogleError::parse(&body);
    let google = google.map(|error| Arc::new(error.redacted(authorization.redactor())));
    let response = ErrorResponse { http_status, google, retry_after };
    if response.rejects_credential() {
        return permanent(Error::CredentialRejected(response));
    }
    FailedAttempt { error: Error::Response(response), next }
}

/// The error in the body of a 2xx, `{"error": {…}}`. An operation may have an `error` too, with a `name`.
fn error_in_success(body: &[u8]) -> Option<GoogleError> {
    let members = body.trim_ascii_start().strip_prefix(b"{")?;
    // Most bodies are an operation or empty. They are not parsed here.
    if !members.trim_ascii_start().starts_with(b"\"error\"") {
        return None;
    }
    let object: super::Json = serde_json::from_slice(body).ok()?;
    if object.len() > 1 { None } else { GoogleError::parse(body) }
}

fn permanent(error: Error) -> FailedAttempt {
    FailedAttempt { error, next: Next::Stop }
}

fn deadline_exceeded(while_doing: &'static str) -> FailedAttempt {
    permanent(Error::DeadlineExceeded { while_doing })
}

fn token_unavailable(unavailable: Unavailable) -> FailedAttempt {
    permanent(Error::CredentialUnavailable { retry_after: unavailable.retry_after })
}

fn timed_out(timeout: SendTimeout) -> FailedAttempt {
    match timeout {
        SendTimeout::Unsent => permanent(Error::UNSENT),
        SendTimeout::NoResponse => {
            FailedAttempt { error: Error::NO_RESPONSE, next: Next::Retry { not_before: Duration::ZERO } }
        }
    }
}

fn send_failed(error: SendError) -> FailedAttempt {
    let cause = error.to_string();
    match error.progress {
        Progress::NotConnected | Progress::Unknown => FailedAttempt {
            error: Error::Unreachable { cause },
            next: Next::Retry { not_before: Duration::ZERO },
        },
        Progress::NotProcessed => FailedAttempt { error: Error::Unreachable { cause }, next: Next::Requeue },
        Progress::NotBuilt => permanent(Error::NotBuilt { cause }),
        Progress::NotHttp => permanent(Error::NotHttp { cause }),
    }
}
