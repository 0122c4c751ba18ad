//! Who calls and until when.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{self, Poll},
    time::Duration,
};

use futures_util::future::Either;
use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tower::Service;

use crate::{
    audit::Record,
    caller::Caller,
    operations::{call::Call, status},
};

/// Adds a [`Call`] to each request's extensions.
#[derive(Clone)]
pub(crate) struct Context<S> {
    inner: S,
    caller: Caller,
}

impl<S> Context<S> {
    pub(super) fn new(inner: S, caller: Caller) -> Self {
        Self { inner, caller }
    }
}

impl<S, B> Service<Request<B>> for Context<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let record = request.extensions().get::<Record>().cloned().unwrap_or_default();
        record.called_by(&self.caller);
        let Ok(timeout) = timeout(request.headers()) else {
            return Either::Right(ready(Ok(status::invalid_timeout().into_http())));
        };
        let call = Call { caller: self.caller.clone(), arrived: Instant::now(), timeout, record };
        request.extensions_mut().insert(call);
        Either::Left(self.inner.call(request))
    }
}

/// The header is there and is not one to eight digits and a unit.
#[derive(Debug, PartialEq, Eq)]
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
