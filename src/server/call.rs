//! The steps of a call. [`handle`] reads top to bottom.
//!
//! 1. Refuse the call if the audit log cannot be written.
//! 2. Refuse a request that is not gRPC ([`not_grpc`]).
//! 3. Acquire a permit, or refuse the call as OVERLOADED.
//! 4. Collect the request message, within its deadline and the size limit ([`message`]).
//! 5. Identify the caller. This follows the message, so that the audit line of a refused caller has the name.
//! 6. Refuse the call as OVERLOADED if its caller has too many calls in flight ([`CallerLimit`]).
//! 7. Run the tonic service. A panic affects only its call.
//! 8. Write the audit line.
//! 9. Respond. The response holds the permit until it is written ([`ResponseBody`]).
//!
//! When the caller disconnects, hyper drops the call's future. [`InFlight`] then moves the call to a task, so that
//! a cancel that was sent completes and is recorded.

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
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::Service;
use tracing::field::display;

use super::{
    caller_limit::{CallerLimit, OverCallerLimit},
    identity::{Identified, PeerIdentity, Refusal},
    message::{self, MessageError},
    resets::Resets,
    response_body::{CallGuard, ResponseBody},
    settings::Limits,
    write_stall::WriteStalls,
};
use crate::{
    audit::{Arrival, Audit, Method, Record},
    caller::Caller,
    operations::{call::Call, status},
    proto::longrunning::{GetOperationRequest, ListOperationsRequest},
    telemetry::{
        metrics::{CallMeasurement, CallMetrics, RpcMethod},
        traces::{Trace, Tracer},
    },
    trace_id::{TraceId, TraceParent},
};

/// The `RetryInfo` of a refused call.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The path of a method before its name.
const SERVICE_PATH: &str = "/google.longrunning.Operations/";

/// The limits, the audit log and the metrics of all calls of the process.
pub struct Calls {
    permits: Arc<Semaphore>,
    max_concurrent_calls: usize,
    caller_limit: Arc<CallerLimit>,
    max_request_bytes: usize,
    upstream_timeout: Duration,
    audit: Audit,
    metrics: Arc<CallMetrics>,
    /// `None` if traces are off.
    tracer: Option<Tracer>,
    /// All calls in flight: a token for each call until its response is written, and the tasks of callers that
    /// disconnected.
    in_flight: TaskTracker,
    /// A token for each call whose audit line is not in the log's buffer. Closed when no call may start.
    unrecorded: TaskTracker,
    /// Ends the calls that are in flight after the drain timeout.
    aborted: CancellationToken,
}

impl Calls {
    /// Limits calls by `limits`, records them in `audit`, measures them in `metrics`, traces them with `tracer`, and
    /// tracks them in `in_flight`. `upstream_timeout` limits the time for a request message to arrive, and the time for a response to be written.
    #[must_use]
    pub fn new(
        limits: &Limits,
        upstream_timeout: Duration,
        audit: Audit,
        metrics: Arc<CallMetrics>,
        tracer: Option<Tracer>,
        in_flight: TaskTracker,
    ) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(limits.max_concurrent_calls));
        let (max_request_bytes, aborted) = (limits.max_request_bytes, CancellationToken::new());
        let max_concurrent_calls = limits.max_concurrent_calls;
        let caller_limit =
            CallerLimit::new(max_per_caller(limits.max_calls_per_caller, max_concurrent_calls));
        Arc::new(Self {
            permits,
            max_concurrent_calls,
            caller_limit,
            max_request_bytes,
            upstream_timeout,
            audit,
            metrics,
            tracer,
            in_flight,
            unrecorded: TaskTracker::new(),
            aborted,
        })
    }

    /// The timeout of a request message, and of writing a response.
    pub(super) fn upstream_timeout(&self) -> Duration {
        self.upstream_timeout
    }

    /// Changes `server.max_calls_per_caller` for later calls.
    pub fn set_max_calls_per_caller(&self, max: Option<usize>) {
        self.caller_limit.set_max(max_per_caller(max, self.max_concurrent_calls));
    }

    /// All calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> &TaskTracker {
        &self.in_flight
    }

    /// Ends the calls in flight with UNAVAILABLE, SHUTTING_DOWN.
    pub fn abort(&self) {
        self.aborted.cancel();
    }

    /// Lets no call start, and waits until the audit log has the lines of all calls that started. Call this after
    /// [`Self::abort`]: the wait then takes only the CPU time of these calls. The audit log may be closed afterwards.
    pub async fn close(&self) {
        self.unrecorded.close();
        self.unrecorded.wait().await;
    }
}

/// The maximum number of concurrent calls of one caller: by default a quarter of all, at least 1.
fn max_per_caller(setting: Option<usize>, max_concurrent_calls: usize) -> usize {
    setting.unwrap_or((max_concurrent_calls / 4).max(1))
}

/// Starts a call of the contract's service. Health and reflection calls do not use this function. After
/// [`Calls::close`], a call does not start: it has no effect and no response, and ends with its connection.
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
    // The token precedes the check, so that `Calls::close` waits for each call that passes the check.
    let unrecorded = calls.unrecorded.token();
    if calls.unrecorded.is_closed() {
        return InFlight::unrecorded(std::future::pending());
    }
    let method = request.uri().path().strip_prefix(SERVICE_PATH).and_then(Method::from_name);
    // Only a sampled trace is in a tracing backend.
    let mut sampled_trace = None;
    let audit_data = method.map(|method| {
        let parent = trace_parent(request.headers());
        let trace_id = parent.map_or_else(TraceId::random, |parent| parent.trace_id);
        let start = |tracer: &Tracer| tracer.start_call(method.name(), trace_id, parent, request.headers());
        let span = calls.tracer.as_ref().map(start);
        let trace = Trace { id: Some(trace_id), span: span.as_ref().map(|span| span.context().clone()) };
        let is_sampled =
            trace.span.as_ref().map_or(parent.is_some_and(TraceParent::is_sampled), |span| span.is_sampled());
        sampled_trace = is_sampled.then(|| trace_id.into());
        AuditData {
            arrival: Arrival::now(method, trace_id),
            record: Record::new(trace, span),
            calls: Arc::clone(calls),
        }
    });
    let record = audit_data.as_ref().map(|data| (data.arrival, data.record.clone(), unrecorded));
    let measurement = match &audit_data {
        Some(AuditData { arrival, .. }) => {
            calls.metrics.start(rpc_method(arrival.method), arrival.instant(), sampled_trace)
        }
        None => calls.metrics.start(RpcMethod::Other, Instant::now(), None),
    };
    let call = handle(Arc::clone(calls), service, identity.clone(), record, request);
    InFlight { call: Some(call.boxed()), audit_data, measurement: Some(measurement) }
}

/// Answers a call of an unknown service.
pub(super) fn unknown_service(calls: &Calls) -> InFlight {
    let unknown = status::from_tonic(&Status::unimplemented("unknown service"));
    let mut call = InFlight::unrecorded(std::future::ready(unknown.into_http()));
    call.measurement = Some(calls.metrics.start(RpcMethod::Other, Instant::now(), None));
    call
}

fn rpc_method(method: Method) -> RpcMethod {
    match method {
        Method::Cancel => RpcMethod::Cancel,
        Method::Get => RpcMethod::Get,
        Method::List => RpcMethod::List,
        Method::Wait => RpcMethod::Wait,
        Method::Delete => RpcMethod::Delete,
    }
}

/// Handles a call from its arrival to its response. `record` is `None` for a path without a method of the contract.
async fn handle<S, B>(
    calls: Arc<Calls>,
    service: S,
    identity: PeerIdentity,
    record: Option<(Arrival, Record, TaskTrackerToken)>,
    request: Request<B>,
) -> Response<ResponseBody>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Body>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    let Some((arrival, record, unrecorded)) = record else {
        let unrecorded = Record::default();
        let mut guard = None;
        let response = respond(&calls, service, &identity, None, &unrecorded, request, &mut guard).await;
        return response.map(|body| ResponseBody::new(body, guard));
    };
    if calls.audit.is_refusing() {
        let refused = status::audit_unavailable(RETRY_AFTER);
        if let Some(line) = arrival.line(&record, status::code_name(refused.code())) {
            calls.audit.keep_refusal(line);
        }
        return refused.into_http();
    }
    let mut guard = None;
    let response = tokio::select! {
        biased;
        response = respond(&calls, service, &identity, Some(arrival), &record, request, &mut guard) => response,
        () = calls.aborted.cancelled() => status::shutting_down().into_http(),
    };
    let response = match arrival.line(&record, status::code_name(code(&response))) {
        Some(line) => {
            let written = calls.audit.write(line);
            drop(unrecorded);
            match written.await {
                Ok(()) => response,
                Err(_) => status::audit_unavailable(RETRY_AFTER).into_http(),
            }
        }
        None => response,
    };
    response.map(|body| ResponseBody::new(body, guard))
}

/// The steps between the arrival of a call and its audit line. `guard` gets the permit.
async fn respond<S, B>(
    calls: &Calls,
    service: S,
    identity: &PeerIdentity,
    arrival: Option<Arrival>,
    record: &Record,
    request: Request<B>,
    guard: &mut Option<CallGuard>,
) -> Response<Body>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Body>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    let arrived = arrival.map_or_else(Instant::now, |arrival| arrival.instant());
    let method = arrival.map(|arrival| arrival.method);
    let (head, body) = request.into_parts();
    if let Some(refused) = not_grpc(&head) {
        record.invalid();
        return refused;
    }
    let Ok(permit) = Arc::clone(&calls.permits).try_acquire_owned() else {
        return status::overloaded(RETRY_AFTER).into_http();
    };
    let guard = guard.insert(CallGuard::new(permit, calls.in_flight.token()));

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
    let caller = match identify(identity, &head.headers, deadline, record.trace()).await {
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

    match calls.caller_limit.acquire(&caller, record.trace()) {
        Ok(slot) => guard.hold(slot),
        Err(OverCallerLimit) => {
            if let Some(name) = method.and_then(|method| name_in(method, &message)) {
                record.set_name(name);
            }
            return status::overloaded_by_caller(RETRY_AFTER).into_http();
        }
    }

    let mut request = Request::from_parts(head, Full::new(message));
    request.extensions_mut().insert(Call { caller, arrived, timeout, record: record.clone() });
    // The call's state is not used after a panic, so no inconsistent state is visible.
    let response = AssertUnwindSafe(run(service, request)).catch_unwind().await;
    match response {
        Ok(response) => with_details(response, record),
        Err(_) => {
            let trace_id = record.trace().id.map(display);
            tracing::error!(trace_id, "a call panicked; the line of the panic hook has the cause");
            status::internal().into_http()
        }
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

/// Refuses a request that is not a POST with 405, and one without gRPC's content type with 415 (gRPC over HTTP/2,
/// "Requests").
///
/// tonic would serve both. A web page can make a browser send such requests to other hosts without a CORS
/// preflight, from the user's network and with the user's certificate. This content type requires a preflight.
pub(super) fn not_grpc(head: &Parts) -> Option<Response<Body>> {
    let (http_status, message) = if head.method != http::Method::POST {
        (StatusCode::METHOD_NOT_ALLOWED, "a gRPC call requires the method POST")
    } else if !is_grpc(&head.headers) {
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "a gRPC call requires the content type application/grpc")
    } else {
        return None;
    };
    // HTTP clients read the HTTP status, and gRPC clients the gRPC status.
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
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return false };
    let Some((prefix, rest)) = content_type.as_bytes().split_at_checked(GRPC.len()) else { return false };
    prefix.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

impl Calls {
    /// Collects the message of a call of health, which has no audit line.
    ///
    /// # Errors
    ///
    /// The message is too long or late. The status is for the caller.
    pub(super) async fn collect_message(
        &self,
        body: impl http_body::Body<Data = Bytes>,
    ) -> Result<Bytes, Status> {
        let deadline = Instant::now() + self.upstream_timeout;
        let message = message::collect(body, deadline, self.max_request_bytes).await;
        message.map_err(|error| refused_message(&error, &Record::default()))
    }
}

fn refused_message(error: &MessageError, record: &Record) -> Status {
    match error {
        MessageError::DeadlinePassed => status::deadline_exceeded("before the message arrived"),
        // The caller has disconnected. This status is only for the audit log.
        MessageError::Incomplete => Status::cancelled("the caller disconnected"),
        MessageError::TooLong { limit } => {
            record.invalid();
            status::too_long(*limit)
        }
    }
}

/// Identifies the caller before `deadline`.
async fn identify(
    identity: &PeerIdentity,
    headers: &HeaderMap,
    deadline: Instant,
    trace: &Trace,
) -> Result<Caller, Status> {
    let identified = match identity.identify(headers) {
        Identified::Now(caller) => caller,
        Identified::Later(caller) => timeout_at(deadline, caller).await.map_err(|_| {
            status::deadline_exceeded("while the keys of the token's issuer were being fetched")
        })?,
    };
    identified.map_err(|refusal| {
        tracing::debug!(trace_id = trace.id.map(display), %refusal, "caller not identified");
        match refusal {
            Refusal::ForwardedClientCert(_) | Refusal::LinkerdClientId | Refusal::ConflictingIdentities => {
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

/// Adds the details that every error has to an error that tonic returned. The message of such a call was not
/// decoded.
fn with_details(response: Response<Body>, record: &Record) -> Response<Body> {
    // A response without a message has its status in the headers. Other responses have it in the trailers.
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

/// The code of a response: from its headers if it has no message, otherwise OK.
fn code<B>(response: &Response<B>) -> Code {
    response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// The reason of an error that this server originated. tonic puts the status of a response without a message into its
/// extensions.
fn our_reason<B>(response: &Response<B>) -> Option<String> {
    let info = response.extensions().get::<Status>()?.get_details_error_info()?;
    (info.domain == status::OUR_DOMAIN).then_some(info.reason)
}

/// The caller's `traceparent` header.
fn trace_parent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all("traceparent").iter();
    let only = values.next().filter(|_| values.next().is_none());
    only.and_then(|only| TraceParent::parse(only.as_bytes()))
}

/// The `grpc-timeout` header is not one to eight digits and a unit.
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

/// A call until its response starts. When dropped earlier, because the caller disconnected, it continues as a task.
pub(super) struct InFlight {
    /// `None` after the response started.
    call: Option<BoxFuture<'static, Response<ResponseBody>>>,
    audit_data: Option<AuditData>,
    /// `None` after the response started, and for a call that is not measured. A drop counts the call as CANCELLED.
    measurement: Option<CallMeasurement>,
}

/// The data for the audit line of a call.
struct AuditData {
    arrival: Arrival,
    record: Record,
    calls: Arc<Calls>,
}

impl InFlight {
    /// A call without an audit line and without metrics, which ends with its connection.
    pub(super) fn unrecorded(call: impl Future<Output = Response<ResponseBody>> + Send + 'static) -> Self {
        Self { call: Some(call.boxed()), audit_data: None, measurement: None }
    }
}

impl Future for InFlight {
    type Output = Response<ResponseBody>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = &mut self.call else { return Poll::Pending };
        let response = ready!(call.poll_unpin(cx));
        self.call = None;
        if let Some(measurement) = self.measurement.take() {
            if let Some(reason) = our_reason(&response) {
                measurement.count_error(&reason);
            }
            measurement.complete(code(&response) as usize);
        }
        Poll::Ready(response)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let (Some(call), Some(AuditData { arrival, record, calls })) = (self.call.take(), &self.audit_data)
        else {
            return;
        };
        // Without a runtime, the process is ending.
        let Ok(runtime) = Handle::try_current() else { return };
        record.disconnected();
        // A wait has no effect, so it ends with its caller.
        let cancelled = match arrival.method {
            Method::Wait => arrival.line(record, status::code_name(Code::Cancelled)),
            Method::Cancel | Method::Get | Method::List | Method::Delete => None,
        };
        match cancelled {
            Some(line) => {
                // `call` holds its own token until the end of this function.
                let (audit, unrecorded) = (calls.audit.clone(), calls.unrecorded.token());
                let write = async move {
                    let written = audit.write(line);
                    drop(unrecorded);
                    written.await
                };
                calls.in_flight.spawn_on(write, &runtime);
            }
            None => drop(calls.in_flight.spawn_on(call, &runtime)),
        }
    }
}

/// A call with the limits of its connection: a reset before the response is counted, and the time for writing the
/// response is limited.
pub(super) struct ConnectionCall {
    call: InFlight,
    started_at: Instant,
    has_response: bool,
    resets: Arc<Resets>,
    stalls: Arc<WriteStalls>,
}

impl ConnectionCall {
    pub(super) fn new(call: InFlight, resets: &Arc<Resets>, stalls: &Arc<WriteStalls>) -> Self {
        let (resets, stalls) = (Arc::clone(resets), Arc::clone(stalls));
        Self { call, started_at: Instant::now(), has_response: false, resets, stalls }
    }
}

impl Future for ConnectionCall {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.call.poll_unpin(cx));
        self.has_response = true;
        response.body_mut().start_writing(&self.stalls);
        Poll::Ready(Ok(response))
    }
}

impl Drop for ConnectionCall {
    fn drop(&mut self) {
        if !self.has_response {
            self.resets.count(self.started_at);
        }
    }
}

#[cfg(test)]
mod tests;
