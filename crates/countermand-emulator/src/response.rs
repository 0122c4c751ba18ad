//! Responses: JSON, HTML or text, with a body that may break off.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;

use crate::api_error::ApiError;

pub(crate) type HttpResponse = Response<Payload>;

/// A body in memory, which is sent whole, or breaks off after its first half.
pub(crate) struct Payload {
    rest: Bytes,
    announced: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Whole,
    /// One half is to be sent, then the body fails.
    Halved,
    /// One half was sent.
    Pausing,
    Over,
}

/// The error of a body that breaks off on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the body breaks off on purpose")]
pub(crate) struct BrokenOff;

impl From<String> for Payload {
    fn from(text: String) -> Self {
        let rest = Bytes::from(text);
        Self { announced: rest.len() as u64, rest, stage: Stage::Whole }
    }
}

impl Payload {
    /// Makes the body break off in its middle.
    pub(crate) fn truncated(mut self) -> Self {
        // An empty body has no middle, so at least one byte is announced.
        self.announced = self.announced.max(1);
        self.rest.truncate(self.rest.len() / 2);
        self.stage = Stage::Halved;
        self
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.stage {
            Stage::Whole if self.rest.is_empty() => Poll::Ready(None),
            Stage::Whole | Stage::Halved if !self.rest.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))))
            }
            Stage::Whole | Stage::Halved => {
                self.stage = Stage::Pausing;
                // hyper flushes while a body is pending, and sends nothing after an error.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Stage::Pausing => {
                self.stage = Stage::Over;
                Poll::Ready(Some(Err(BrokenOff)))
            }
            Stage::Over => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::Over || self.stage == Stage::Whole && self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}

pub(crate) fn json(status: StatusCode, value: &Value) -> HttpResponse {
    with_type(status, format!("{value:#}\n"), "application/json; charset=UTF-8")
}

/// The HTML page of Google's front end, which answers requests that reach no API: an unknown address, a malformed
/// request.
pub(crate) fn html(status: StatusCode, explanation: &str) -> HttpResponse {
    let reason = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    let page = format!(
        "<!DOCTYPE html>\n<html lang=en>\n<title>Error {code} ({reason})!!1</title>\n\
         <p><b>{code}.</b> <ins>That’s an error.</ins>\n\
         <p>{explanation}  <ins>That’s all we know.</ins>\n"
    );
    with_type(status, page, "text/html; charset=UTF-8")
}

pub(crate) fn api_error(error: &ApiError) -> HttpResponse {
    let mut response = json(error.http_status(), &error.body());
    if let Some(challenge) = error.challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

pub(crate) fn with_type(status: StatusCode, body: String, content_type: &'static str) -> HttpResponse {
    let mut response = Response::new(Payload::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
