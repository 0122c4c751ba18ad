//! Who calls, until when, and in which time the rest of the request must come.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{self, Poll},
    time::Duration,
};

use futures_util::future::{BoxFuture, Either};
use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, body::Body};
use tower::Service;

use super::timely::Timely;
use crate::{
    audit::Record,
    caller::Caller,
    operations::{call::Call, status},
    server::identity::{Identified, PeerIdentity, Refusal},
};

/// Adds a [`Call`] to each request's extensions, or refuses it.
#[derive(Clone)]
pub(crate) struct Context<S> {
    inner: S,
    identity: PeerIdentity,
    upstream_timeout: Duration,
}

impl<S> Context<S> {
    /// Whatever is to come before a method has its message, comes within `upstream_timeout`.
    pub(super) fn new(inner: S, identity: PeerIdentity, upstream_timeout: Duration) -> Self {
        Self { inner, identity, upstream_timeout }
    }
}

type Answer = Result<Response<Body>, Infallible>;

impl<S, B> Service<Request<B>> for Context<S>
where
    S: Service<Request<Timely<B>>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Either<Ready<Answer>, BoxFuture<'static, Answer>>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let record = request.extensions().get::<Record>().cloned().unwrap_or_default();
        let arrived = Instant::now();
        // Told after who calls: a proof that is false ends a call whatever else is wrong with it.
        let timeout = timeout(request.headers());
        let limit = self.upstream_timeout;
        let deadline = arrived + timeout.ok().flatten().map_or(limit, |timeout| timeout.min(limit));
        match self.identity.identify(request.headers()) {
            Identified::Now(Ok(caller)) => {
                record.set_caller(&caller);
                let Ok(timeout) = timeout else { return refused(status::invalid_timeout()) };
                request.extensions_mut().insert(Call { caller, arrived, timeout, record: record.clone() });
                Either::Left(self.inner.call(request.map(|body| Timely::new(body, deadline, record))))
            }
            Identified::Now(Err(refusal)) => refused(unidentified(refusal)),
            Identified::Later(caller) => {
                let mut inner = self.inner.clone();
                Either::Right(Either::Right(Box::pin(async move {
                    let caller = match in_time(caller, deadline).await {
                        Ok(caller) => caller,
                        Err(status) => return Ok(status.into_http()),
                    };
                    record.set_caller(&caller);
                    let Ok(timeout) = timeout else { return Ok(status::invalid_timeout().into_http()) };
                    request.extensions_mut().insert(Call {
                        caller,
                        arrived,
                        timeout,
                        record: record.clone(),
                    });
                    inner.call(request.map(|body| Timely::new(body, deadline, record))).await
                })))
            }
        }
    }
}

fn refused<F, G>(status: Status) -> Either<F, Either<Ready<Answer>, G>> {
    Either::Right(Either::Left(ready(Ok(status.into_http()))))
}

/// The caller, if it is known before the call's own time is over.
async fn in_time(
    caller: BoxFuture<'static, Result<Caller, Refusal>>,
    deadline: Instant,
) -> Result<Caller, Status> {
    let caller = timeout_at(deadline, caller).await;
    let late = |_| status::deadline_exceeded("while the keys of the token's issuer were being fetched");
    caller.map_err(late)?.map_err(unidentified)
}

fn unidentified(refusal: Refusal) -> Status {
    tracing::debug!(%refusal, "nobody can say who calls");
    match refusal {
        Refusal::ForwardedClientCert(_) | Refusal::LinkerdClientId | Refusal::Contradiction => {
            status::invalid_forwarded_identity(&refusal.to_string())
        }
        Refusal::Token(_) => status::invalid_token(&refusal.to_string()),
        Refusal::KeysUnavailable { retry_after } => {
            status::keys_unavailable(&refusal.to_string(), retry_after)
        }
    }
}

/// The header is there and is not one to eight digits and a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NotATimeout;

/// The `grpc-timeout` of a request (gRPC over HTTP/2, "Timeout").
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, NotATimeout> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let (unit, digits) = value.as_bytes().split_last().ok_or(NotATimeout)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotATimeout);
    }
    let amount = digits.iter().fold(0, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    Ok(Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return Err(NotATimeout),
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};

    use super::{NotATimeout, timeout};

    fn parse(text: &[u8]) -> Result<Option<Duration>, NotATimeout> {
        let value = HeaderValue::from_bytes(text).expect("a header");
        timeout(&HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), value)]))
    }

    #[test]
    fn every_unit_is_understood() {
        for (text, nanos) in [
            ("0n", 0),
            ("99999999n", 99_999_999),
            ("2u", 2_000),
            ("30m", 30_000_000),
            ("1S", 1_000_000_000),
            ("2M", 120_000_000_000),
            ("1H", 3_600_000_000_000),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(Some(Duration::from_nanos(nanos))), "{text}");
        }
        assert!(parse(b"99999999H").is_ok_and(|timeout| timeout.is_some()));
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [&b""[..], b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b" 1S", b"1 S", b"\xff"] {
            assert_eq!(parse(text), Err(NotATimeout), "{text:?}");
        }
    }
}
