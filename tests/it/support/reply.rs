//! The responses of a scripted upstream.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// One response.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    end: BodyEnd,
    gate: Option<Gate>,
    /// Sends RST_STREAM with this error code and no response.
    reset: Option<h2::Reason>,
}

/// The end of the body.
#[derive(Clone, Copy)]
enum BodyEnd {
    Complete,
    Truncated,
    Hanging,
}

/// Delays responses until the test opens it. Clones share one state.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    /// Releases every response that waits for this gate, and every later one.
    pub(crate) fn open(&self) {
        self.0.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Waits until the gate is open.
    pub(super) async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

impl Reply {
    /// A response with this status and body.
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let (headers, body) = (HeaderMap::new(), body.into());
        let reply = Self { status, headers, body, end: BodyEnd::Complete, gate: None, reset: None };
        reply.header("content-type", content_type)
    }

    /// 200 with `{}`, the response of AMAPI to a cancel.
    pub(crate) fn ok() -> Self {
        Self::json(200, &json!({}))
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json; charset=UTF-8", body.to_string())
    }

    /// A Google JSON error with `details`.
    pub(crate) fn error(http_status: u16, status: &str, message: &str, details: Value) -> Self {
        let error = json!({"code": http_status, "message": message, "status": status, "details": details});
        Self::json(http_status, &json!({ "error": error }))
    }

    /// A Google JSON error without details.
    pub(crate) fn plain_error(http_status: u16, status: &str, message: &str) -> Self {
        let error = json!({"code": http_status, "message": message, "status": status});
        Self::json(http_status, &json!({ "error": error }))
    }

    /// The response of a token endpoint with an access token.
    pub(crate) fn token(token: &str) -> Self {
        Self::json(200, &json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).unwrap();
        self.headers.insert(name, HeaderValue::try_from(value).unwrap());
        self
    }

    /// Never responds.
    pub(crate) fn hanging() -> Self {
        Self::ok().held().0
    }

    /// Announces a longer body than it sends, then ends the connection or stream with an error.
    pub(crate) fn with_truncated_body(mut self) -> Self {
        self.end = BodyEnd::Truncated;
        let announced = (self.body.len() + 100).to_string();
        self.header("content-length", &announced)
    }

    /// Sends RST_STREAM and no response. HTTP/2 only.
    pub(crate) fn stream_reset(reason: h2::Reason) -> Self {
        Self { reset: Some(reason), ..Self::ok() }
    }

    /// Sends the body and never ends it.
    pub(crate) fn with_hanging_body(mut self) -> Self {
        self.end = BodyEnd::Hanging;
        self
    }

    /// Sends nothing before the gate opens.
    pub(crate) fn held(mut self) -> (Self, Gate) {
        let gate = Gate::new();
        self.gate = Some(gate.clone());
        (self, gate)
    }

    pub(super) async fn into_response(self) -> Result<Response<Body>, h2::Error> {
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        if let Some(reason) = self.reset {
            return Err(reason.into());
        }
        let start = stream::iter([Ok(Frame::data(self.body.clone()))]);
        let body = match self.end {
            BodyEnd::Complete => {
                Full::new(self.body).map_err(|never: Infallible| match never {}).boxed_unsync()
            }
            BodyEnd::Truncated => {
                // The pause lets hyper send the body's bytes first.
                let end = stream::once(async {
                    tokio::task::yield_now().await;
                    Err(io::Error::other("scripted truncation"))
                });
                StreamBody::new(start.chain(end)).boxed_unsync()
            }
            BodyEnd::Hanging => StreamBody::new(start.chain(stream::pending())).boxed_unsync(),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status.try_into().unwrap();
        *response.headers_mut() = self.headers;
        Ok(response)
    }
}
