//! A line in the audit log for every call, and no answer before it is written.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, Ready, ready},
};
use http::{HeaderMap, Request, Response};
use tokio::runtime::Handle;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::Code;
use tower::Service;

use super::{explanation::RefusedByTheLibrary, held::Held};
use crate::{
    audit::{Arrival, Audit, Method, Record, TraceId},
    operations::status,
};

/// When a caller whose call could not be recorded may come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// What comes before the methods' names.
const SERVICE: &str = "/google.longrunning.Operations/";

/// What sees to it that every call leaves a line. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    audit: Audit,
    calls: TaskTracker,
    cut: CancellationToken,
}

impl Recorder {
    /// Lines go to `audit`.
    #[must_use]
    pub fn new(audit: Audit) -> Self {
        Self(Arc::new(Inner { audit, calls: TaskTracker::new(), cut: CancellationToken::new() }))
    }

    /// Where lines go.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Ends the calls that still run, UNAVAILABLE, and waits until the line of every call is written.
    pub async fn finish(&self) {
        let Inner { audit, calls, cut } = &*self.0;
        cut.cancel();
        calls.close();
        calls.wait().await;
        audit.end().await;
    }
}

/// Records each call of the contract's methods. A path that is none of them passes unrecorded.
#[derive(Clone)]
pub(crate) struct Audited<S> {
    inner: S,
    recorder: Recorder,
}

impl<S> Audited<S> {
    pub(super) fn new(inner: S, recorder: Recorder) -> Self {
        Self { inner, recorder }
    }
}

type Answer = Result<Response<Held>, Infallible>;

impl<S, B> Service<Request<B>> for Audited<S>
where
    S: Service<Request<B>, Response = Response<Held>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Held>;
    type Error = Infallible;
    type Future = Either<Carried, Either<Ready<Answer>, S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let method = request.uri().path().strip_prefix(SERVICE).and_then(Method::from_name);
        let Some(method) = method else {
            return Either::Right(Either::Right(self.inner.call(request)));
        };
        let arrival = Arrival::now(method, trace_id(request.headers()));
        let record = Record::default();
        let recorder = self.recorder.clone();
        if recorder.audit().is_refusing() {
            return Either::Right(Either::Left(ready(Ok(refuse(arrival, recorder.audit())))));
        }
        request.extensions_mut().insert(record.clone());
        let inner = self.inner.call(request);
        let token = recorder.0.calls.token();
        let call = carry(inner, arrival, record.clone(), recorder.clone(), token).boxed();
        Either::Left(Carried { call: Some(call), arrival, record, recorder })
    }
}

/// The whole of a call: its answer, and then its line.
async fn carry(
    inner: impl Future<Output = Answer>,
    arrival: Arrival,
    record: Record,
    recorder: Recorder,
    _token: TaskTrackerToken,
) -> Answer {
    let Inner { audit, cut, calls: _ } = &*recorder.0;
    let answer = tokio::select! {
        biased;
        Ok(answer) = inner => answer,
        () = cut.cancelled() => status::shutting_down().into_http(),
    };
    let mut code = code(&answer);
    if !record.is_decided() {
        code = note_refusal(&record, &answer, code);
    }
    let Some(line) = arrival.line(&record, status::code_name(code)) else { return Ok(answer) };
    match audit.write(line).await {
        Ok(()) => Ok(answer),
        Err(_) => Ok(status::audit_unavailable(COME_BACK).into_http()),
    }
}

/// Nothing is done for a call of which no line can be written now.
fn refuse(arrival: Arrival, audit: &Audit) -> Response<Held> {
    let answer = status::audit_unavailable(COME_BACK);
    if let Some(line) = arrival.line(&Record::default(), status::code_name(answer.code())) {
        audit.keep_refusal(line);
    }
    answer.into_http()
}

/// Notes what the code says of a call that was refused before it came to a decision, and answers how it ended.
fn note_refusal(record: &Record, answer: &Response<Held>, code: Code) -> Code {
    let by_the_library = answer.extensions().get::<RefusedByTheLibrary>().is_some();
    match code {
        Code::Unauthenticated => record.denied(None),
        // The library found half a message, or none.
        _ if by_the_library && record.has_disconnected() => return Code::Cancelled,
        Code::InvalidArgument => record.invalid(),
        _ if by_the_library => record.invalid(),
        // Too many calls, or a defect: nobody looked at the request.
        _ => {}
    }
    code
}

/// An answer that has a message says OK in its trailers; any other says its code in its headers.
fn code(answer: &Response<Held>) -> Code {
    answer.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

fn trace_id(headers: &HeaderMap) -> TraceId {
    let mut given = headers.get_all("traceparent").iter();
    let only = given.next().filter(|_| given.next().is_none());
    only.and_then(|only| TraceId::of(only.as_bytes())).unwrap_or_else(TraceId::random)
}

/// A call, whose line is written also when its caller hangs up: what was begun is carried to its end.
pub(crate) struct Carried {
    // None when it has ended.
    call: Option<BoxFuture<'static, Answer>>,
    arrival: Arrival,
    record: Record,
    recorder: Recorder,
}

impl Future for Carried {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(call) = &mut self.call else { return Poll::Pending };
        let answer = std::task::ready!(call.poll_unpin(cx));
        self.call = None;
        Poll::Ready(answer)
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        // Without a runtime the process ends, and nothing can be carried.
        let Ok(runtime) = Handle::try_current() else { return };
        self.record.disconnected();
        let Inner { audit, calls, cut: _ } = &*self.recorder.0;
        // Nobody's wait is worth going on with when the one who waited is gone.
        let cancelled = match self.arrival.method {
            Method::Wait => self.arrival.line(&self.record, status::code_name(Code::Cancelled)),
            Method::Cancel | Method::Get | Method::List | Method::Delete => None,
        };
        match cancelled {
            None => drop(calls.spawn_on(call, &runtime)),
            Some(line) => {
                let audit = audit.clone();
                calls.spawn_on(async move { audit.write(line).await }, &runtime);
            }
        }
    }
}

#[cfg(test)]
mod tests;
