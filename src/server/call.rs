//! One function for a call: [`handle`] reads top to bottom.
//!
//! 1. Refuse the call when the audit log cannot be written.
//! 2. Refuse what is not gRPC ([`not_grpc`]).
//! 3. Take a permit, or refuse the call as OVERLOADED.
//! 4. Collect the request message, within its deadline and the size limit ([`message`]).
//! 5. Identify the caller. The message is collected first, so that the audit line of a refused caller has the name.
//! 6. Run the tonic service; a panic costs its own call only.
//! 7. Write the audit line.
//! 8. Respond. The response holds the permit until it has been written ([`ResponseBody`]).
//!
//! When the caller disconnects, hyper drops the call's future. [`InFlight`] then moves what is left to a task, so that a
//! cancel that was sent completes and is recorded.

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use prost::Message;
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Status, body::Body};
use tower::Service;

use super::{
    identity::{Identified, PeerIdentity, Refusal},
    message::{self, MessageError},
    resets::Resets,
    response_body::{Hold, ResponseBody},
    settings::Limits,
    write_stall::WriteStalls,
};
use crate::{
    audit::{Arrival, Audit, Method, Record, TraceId},
    caller::Caller,
    operations::{call::Call, status},
    proto::longrunning::{GetOperationRequest, ListOperationsRequest},
};

/// When a refused caller may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The path of a method up to its name.
const SERVICE_PATH: &str = "/google.longrunning.Operations/";

/// The limits and the audit log of all calls of the process.
pub struct Calls {
    permits: Arc<Semaphore>,
    max_request_bytes: usize,
    upstream_timeout: Duration,
    audit: Audit,
    /// Everything in flight: a token for each call until its response has been written, and the tasks that go on for
    /// callers that have left.
    in_flight: TaskTracker,
    /// Ends the calls that outlast the drain.
    cut: CancellationToken,
}

impl Calls {
    /// Calls within `limits`, each recorded in `audit`, and all of them tracked by `in_flight`. A request message
    /// must arrive within `upstream_timeout`, and so must a response be taken.
    #[must_use]
    pub fn new(
        limits: &Limits,
        upstream_timeout: Duration,
        audit: Audit,
        in_flight: TaskTracker,
    ) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(limits.max_concurrent_calls));
        let (max_request_bytes, cut) = (limits.max_request_bytes, CancellationToken::new());
        Arc::new(Self { permits, max_request_bytes, upstream_timeout, audit, in_flight, cut })
    }

    /// The bound on the time for a request message, and on the time for a response to be written.
    pub(super) fn upstream_timeout(&self) -> Duration {
        self.upstream_timeout
    }

    /// Everything in flight.
    #[must_use]
    pub fn in_flight(&self) -> &TaskTracker {
        &self.in_flight
    }

    /// Answers the calls that are still in flight with UNAVAILABLE, SHUTTING_DOWN.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

/// Starts a call of the contract's service. Health and reflection do not pass here.
pub(super) fn start<S, B>(
    calls: &Arc<Calls>,
    service: S,
    identity: &PeerIdentity,
    request: Request<B>,
) -> InFlight
where
    S: Service<Request<Full<Bytes>>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    let method = request.uri().path().strip_prefix(SERVICE_PATH).and_then(Method::from_name);
    let recorded = method.map(|method| Recorded {
        arrival: Arrival::now(method, trace_id(request.headers())),
        record: Record::default(),
        calls: Arc::clone(calls),
    });
    let record = recorded.as_ref().map(|recorded| (recorded.arrival, recorded.record.clone()));
    let call = handle(Arc::clone(calls), service, identity.clone(), record, request);
    InFlight { call: Some(call.boxed()), recorded }
}

/// A call from its arrival to its response. A path that is none of the contract's methods has no `record`.
async fn handle<S, B>(
    calls: Arc<Calls>,
    service: S,
    identity: PeerIdentity,
    record: Option<(Arrival, Record)>,
    request: Request<B>,
) -> Response<ResponseBody>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Body>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    let Some((arrival, record)) = record else {
        let unrecorded = Record::default();
        let mut hold = None;
        let response = respond(&calls, service, &identity, None, &unrecorded, request, &mut hold).await;
        return response.map(|body| ResponseBody::new(body, hold));
    };
    if calls.audit.is_refusing() {
        let refused = status::audit_unavailable(RETRY_AFTER);
        if let Some(line) = arrival.line(&record, status::code_name(refused.code())) {
            calls.audit.keep_refusal(line);
        }
        return refused.into_http();
    }
    let mut hold = None;
    let method = Some(arrival.method);
    let response = tokio::select! {
        biased;
        response = respond(&calls, service, &identity, method, &record, request, &mut hold) => response,
        () = calls.cut.cancelled() => status::shutting_down().into_http(),
    };
    let response = match arrival.line(&record, status::code_name(code(&response))) {
        Some(line) => match calls.audit.write(line).await {
            Ok(()) => response,
            Err(_) => status::audit_unavailable(RETRY_AFTER).into_http(),
        },
        None => response,
    };
    response.map(|body| ResponseBody::new(body, hold))
}

/// The steps between the arrival of a call and its audit line. `hold` gets the permit of a call that has one.
async fn respond<S, B>(
    calls: &Calls,
    service: S,
    identity: &PeerIdentity,
    method: Option<Method>,
    record: &Record,
    request: Request<B>,
    hold: &mut Option<Hold>,
) -> Response<Body>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Body>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    if let Some(refused) = not_grpc(&head) {
        record.invalid();
        return refused;
    }
    let Ok(permit) = Arc::clone(&calls.permits).try_acquire_owned() else {
        return status::overloaded(RETRY_AFTER).into_http();
    };
    *hold = Some(Hold::new(permit, calls.in_flight.token()));

    let timeout = grpc_timeout(&head.headers);
    let limit = calls.upstream_timeout;
    let deadline = arrived + timeout.ok().flatten().map_or(limit, |timeout| timeout.min(limit));
    let message = match timeout {
        Ok(timeout) => message::collect(body, deadline, calls.max_request_bytes)
            .await
            .map(|message| (message, timeout))
            .map_err(|error| refused_message(&error, record)),
        Err(InvalidTimeout) => {
            record.invalid();
            Err(status::invalid_timeout())
        }
    };
    let caller = match identify(identity, &head.headers, deadline).await {
        Ok(caller) => caller,
        Err(refused) => {
            if let (Some(method), Ok((message, _))) = (method, &message)
                && let Some(name) = name_in(method, message)
            {
                record.set_name(name);
            }
            if refused.code() == Code::Unauthenticated {
                record.denied(None);
            }
            return refused.into_http();
        }
    };
    record.set_caller(&caller);
    let (message, timeout) = match message {
        Ok(message) => message,
        Err(refused) => return refused.into_http(),
    };

    let mut request = Request::from_parts(head, Full::new(message));
    request.extensions_mut().insert(Call { caller, arrived, timeout, record: record.clone() });
    // After a panic nothing of the call is used again, so that no half-written state is visible.
    let response = AssertUnwindSafe(run(service, request)).catch_unwind().await;
    match response {
        Ok(response) => explain(response, record),
        // The panic hook has logged the cause.
        Err(_) => status::internal().into_http(),
    }
}

async fn run<S>(mut service: S, request: Request<Full<Bytes>>) -> Response<Body>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Body>, Error = Infallible>,
{
    // The generated service is always ready.
    let Ok(response) = service.call(request).await;
    response
}

/// Refuses what is no POST with 405, and what has no content type of gRPC with 415 (gRPC over HTTP/2, "Requests").
///
/// tonic would serve both. A web page can make a browser send such requests to other hosts without asking first, from
/// the network and with the certificate of its reader; it cannot send this content type.
pub(super) fn not_grpc(head: &Parts) -> Option<Response<Body>> {
    let (http_status, message) = if head.method != http::Method::POST {
        (StatusCode::METHOD_NOT_ALLOWED, "the method of a call is POST")
    } else if !is_grpc(&head.headers) {
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type of a call is application/grpc")
    } else {
        return None;
    };
    // The HTTP status is for HTTP clients, and the gRPC status for gRPC clients.
    let mut refused = status::not_grpc(message).into_http();
    *refused.status_mut() = http_status;
    if http_status == StatusCode::METHOD_NOT_ALLOWED {
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    Some(refused)
}

/// Whether the content type is `application/grpc`, alone or with a message format (`+proto`) or parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return false };
    let Some((begin, rest)) = given.as_bytes().split_at_checked(GRPC.len()) else { return false };
    begin.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

fn refused_message(error: &MessageError, record: &Record) -> Status {
    match error {
        MessageError::Late => status::deadline_exceeded("before the message had come"),
        // The caller is gone: this status is for the audit log alone.
        MessageError::Incomplete => Status::cancelled("the caller disconnected"),
        MessageError::TooLong { limit } => {
            record.invalid();
            status::too_long(*limit)
        }
    }
}

/// The caller, when it is known before `deadline`.
async fn identify(identity: &PeerIdentity, headers: &HeaderMap, deadline: Instant) -> Result<Caller, Status> {
    let identified = match identity.identify(headers) {
        Identified::Now(caller) => caller,
        Identified::Later(caller) => timeout_at(deadline, caller).await.map_err(|_| {
            status::deadline_exceeded("while the keys of the token's issuer were being fetched")
        })?,
    };
    identified.map_err(|refusal| {
        tracing::debug!(%refusal, "caller not identified");
        match refusal {
            Refusal::ForwardedClientCert(_) | Refusal::LinkerdClientId | Refusal::Contradiction => {
                status::invalid_forwarded_identity(&refusal.to_string())
            }
            Refusal::Token(_) => status::invalid_token(&refusal.to_string()),
            Refusal::KeysUnavailable { retry_after } => {
                status::keys_unavailable(&refusal.to_string(), retry_after)
            }
        }
    })
}

/// The resource name in a request message. `None` when there is no message, or it cannot be decoded.
fn name_in(method: Method, message: &Bytes) -> Option<String> {
    let message = message::payload(message)?;
    match method {
        Method::List => ListOperationsRequest::decode(message).map(|request| request.name),
        // The other methods have the name in the same field.
        Method::Cancel | Method::Get | Method::Wait | Method::Delete => {
            GetOperationRequest::decode(message).map(|request| request.name)
        }
    }
    .ok()
}

/// Adds the details that every error has to an error of tonic's own. tonic read no whole message of such a call.
fn explain(response: Response<Body>, record: &Record) -> Response<Body> {
    // A response without a message has its status in the headers; others have it in their trailers.
    match Status::from_header_map(response.headers()) {
        Some(refused) if refused.code() != Code::Ok && refused.details().is_empty() => {
            if !record.is_decided() {
                record.invalid();
            }
            status::from_tonic(&refused).into_http()
        }
        _ => response,
    }
}

/// The code of a response: in its headers when it has no message, otherwise OK.
fn code(response: &Response<Body>) -> Code {
    response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// The trace of the caller's `traceparent` header, or a new one.
fn trace_id(headers: &HeaderMap) -> TraceId {
    let mut given = headers.get_all("traceparent").iter();
    let only = given.next().filter(|_| given.next().is_none());
    only.and_then(|only| TraceId::of(only.as_bytes())).unwrap_or_else(TraceId::random)
}

/// The header is not one to eight digits and a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InvalidTimeout;

/// The `grpc-timeout` of a request (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>, InvalidTimeout> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let (unit, digits) = value.as_bytes().split_last().ok_or(InvalidTimeout)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(InvalidTimeout);
    }
    let amount = digits.iter().fold(0, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    Ok(Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return Err(InvalidTimeout),
    }))
}

/// A call until its response begins. Dropped before, because the caller disconnected, it goes on as a task.
pub(super) struct InFlight {
    /// `None` after the response.
    call: Option<BoxFuture<'static, Response<ResponseBody>>>,
    recorded: Option<Recorded>,
}

/// The part of a call that its audit line needs.
struct Recorded {
    arrival: Arrival,
    record: Record,
    calls: Arc<Calls>,
}

impl InFlight {
    /// A call that leaves no audit line and ends with its connection.
    pub(super) fn unrecorded(call: impl Future<Output = Response<ResponseBody>> + Send + 'static) -> Self {
        Self { call: Some(call.boxed()), recorded: None }
    }
}

impl Future for InFlight {
    type Output = Response<ResponseBody>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = &mut self.call else { return Poll::Pending };
        let response = ready!(call.poll_unpin(cx));
        self.call = None;
        Poll::Ready(response)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let (Some(call), Some(Recorded { arrival, record, calls })) = (self.call.take(), &self.recorded)
        else {
            return;
        };
        // Without a runtime the process ends.
        let Ok(runtime) = Handle::try_current() else { return };
        record.disconnected();
        // A wait has nothing to complete for a caller that is gone.
        let cancelled = match arrival.method {
            Method::Wait => arrival.line(record, status::code_name(Code::Cancelled)),
            Method::Cancel | Method::Get | Method::List | Method::Delete => None,
        };
        match cancelled {
            Some(line) => {
                let audit = calls.audit.clone();
                calls.in_flight.spawn_on(async move { audit.write(line).await }, &runtime);
            }
            None => drop(calls.in_flight.spawn_on(call, &runtime)),
        }
    }
}

/// A call as its connection sees it: a reset before the response counts, and so does the time that the response takes
/// to be written.
pub(super) struct OnConnection {
    call: InFlight,
    began: Instant,
    has_response: bool,
    resets: Arc<Resets>,
    stalls: Arc<WriteStalls>,
}

impl OnConnection {
    pub(super) fn new(call: InFlight, resets: &Arc<Resets>, stalls: &Arc<WriteStalls>) -> Self {
        let (resets, stalls) = (Arc::clone(resets), Arc::clone(stalls));
        Self { call, began: Instant::now(), has_response: false, resets, stalls }
    }
}

impl Future for OnConnection {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.call.poll_unpin(cx));
        self.has_response = true;
        response.body_mut().start_writing(&self.stalls);
        Poll::Ready(Ok(response))
    }
}

impl Drop for OnConnection {
    fn drop(&mut self) {
        if !self.has_response {
            self.resets.count(self.began);
        }
    }
}

#[cfg(test)]
mod tests;
