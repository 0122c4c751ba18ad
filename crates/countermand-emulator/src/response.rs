//! Responses: JSON, HTML or text, with a body that can be truncated.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;

use crate::api_error::ApiError;

pub(crate) type HttpResponse = Response<Payload>;

/// A body in memory. It is sent whole, or fails after its first half.
pub(crate) struct Payload {
    rest: Bytes,
    announced: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Whole,
    /// The first half has yet to be sent.
    FirstHalf,
    /// The first half was sent.
    BeforeError,
    Ended,
}

/// The error of a truncated body.
#[derive(Debug, thiserror::Error)]
#[error("the body is truncated on purpose")]
pub(crate) struct TruncatedBody;

impl From<String> for Payload {
    fn from(text: String) -> Self {
        let rest = Bytes::from(text);
        Self { announced: rest.len() as u64, rest, stage: Stage::Whole }
    }
}

impl Payload {
    /// Makes the body fail after its first half.
    pub(crate) fn truncated(mut self) -> Self {
        // The announced length is at least one, so that an empty body is truncated too.
        self.announced = self.announced.max(1);
        self.rest.truncate(self.rest.len() / 2);
        self.stage = Stage::FirstHalf;
        self
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = TruncatedBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TruncatedBody>>> {
        match self.stage {
            Stage::Whole if self.rest.is_empty() => Poll::Ready(None),
            Stage::Whole | Stage::FirstHalf if !self.rest.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))))
            }
            Stage::Whole | Stage::FirstHalf => {
                self.stage = Stage::BeforeError;
                // hyper flushes while a body is pending, and sends nothing after an error.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Stage::BeforeError => {
                self.stage = Stage::Ended;
                Poll::Ready(Some(Err(TruncatedBody)))
            }
            Stage::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::Ended || self.stage == Stage::Whole && self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}

pub(crate) fn json(status: StatusCode, value: &Value) -> HttpResponse {
    with_type(status, format!("{value:#}\n"), "application/json; charset=UTF-8")
}

/// The HTML page of Google's front end, for requests that reach no API: an unknown path, or a malformed request.
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
