//! What a scripted upstream answers.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// One answer.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    end: End,
    gate: Option<Gate>,
    /// Resets the stream in place of a response.
    reset: Option<h2::Reason>,
}

/// What follows the body's bytes.
#[derive(Clone, Copy)]
enum End {
    Whole,
    BreaksOff,
    Hangs,
}

/// Holds an answer back until it is opened.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    /// Lets the answer, and every other that is held by this gate, go.
    pub(crate) fn open(&self) {
        self.0.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Waits until it is open.
    pub(super) async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

impl Reply {
    /// A status with a body of any kind.
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let (headers, body) = (HeaderMap::new(), body.into());
        let reply = Self { status, headers, body, end: End::Whole, gate: None, reset: None };
        reply.header("content-type", content_type)
    }

    /// 200 with `{}`, as AMAPI answers a cancel.
    pub(crate) fn ok() -> Self {
        Self::json(200, &json!({}))
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json; charset=UTF-8", body.to_string())
    }

    /// Google's JSON error, with `details`.
    pub(crate) fn error(http_status: u16, status: &str, message: &str, details: Value) -> Self {
        let error = json!({"code": http_status, "message": message, "status": status, "details": details});
        Self::json(http_status, &json!({ "error": error }))
    }

    /// Google's JSON error without details.
    pub(crate) fn plain_error(http_status: u16, status: &str, message: &str) -> Self {
        let error = json!({"code": http_status, "message": message, "status": status});
        Self::json(http_status, &json!({ "error": error }))
    }

    /// A token.
    pub(crate) fn token(token: &str) -> Self {
        Self::json(200, &json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).unwrap();
        self.headers.insert(name, HeaderValue::try_from(value).unwrap());
        self
    }

    /// No head and no body, ever.
    pub(crate) fn hanging() -> Self {
        Self::ok().held().0
    }

    /// The connection or stream ends in error in the middle of the body, which was announced longer.
    pub(crate) fn breaking_off(mut self) -> Self {
        self.end = End::BreaksOff;
        let announced = (self.body.len() + 100).to_string();
        self.header("content-length", &announced)
    }

    /// RST_STREAM in place of a response, over HTTP/2.
    pub(crate) fn stream_reset(reason: h2::Reason) -> Self {
        Self { reset: Some(reason), ..Self::ok() }
    }

    /// The body stops, and does not end.
    pub(crate) fn hanging_in_the_body(mut self) -> Self {
        self.end = End::Hangs;
        self
    }

    /// Nothing of it before the gate opens.
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
            End::Whole => Full::new(self.body).map_err(|never: Infallible| match never {}).boxed_unsync(),
            End::BreaksOff => {
                // After a pause, in which what is there is sent.
                let end = stream::once(async {
                    tokio::task::yield_now().await;
                    Err(io::Error::other("told to break off"))
                });
                StreamBody::new(start.chain(end)).boxed_unsync()
            }
            End::Hangs => StreamBody::new(start.chain(stream::pending())).boxed_unsync(),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status.try_into().unwrap();
        *response.headers_mut() = self.headers;
        Ok(response)
    }
}
