//! Answers: status, type and a body that may break off.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;

use super::refusal::{Refusal, page};

/// An answer to a request.
pub(super) type Answer = Response<Payload>;

/// A body, all of which is at hand, and which is sent whole or in its first half.
pub(super) struct Payload {
    rest: Bytes,
    announced: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Whole,
    /// Half of it is to be sent, then the connection or the stream to end in error.
    Halved,
    /// Half of it was sent.
    Pausing,
    Over,
}

/// Why a body broke off: it was told to.
#[derive(Debug, thiserror::Error)]
#[error("told to break off")]
pub(super) struct BrokenOff;

impl From<String> for Payload {
    fn from(text: String) -> Self {
        let rest = Bytes::from(text);
        Self { announced: rest.len() as u64, rest, stage: Stage::Whole }
    }
}

impl Payload {
    /// Has it break off in its middle, be it ever so short.
    pub(super) fn broken(mut self) -> Self {
        // An empty body would be sent whole: there is no middle in it.
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
                // hyper sends what it has while a body has nothing new, and nothing after an error.
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

/// JSON, with line breaks or without.
pub(super) fn json(status: StatusCode, value: &Value, pretty: bool) -> Answer {
    let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
    with_type(status, text, "application/json; charset=UTF-8")
}

/// The page of Google's front end.
pub(super) fn html(status: StatusCode, explanation: &str) -> Answer {
    with_type(status, page(status, explanation), "text/html; charset=UTF-8")
}

/// An error of an API.
pub(super) fn refusal(refusal: &Refusal, pretty: bool) -> Answer {
    let mut answer = json(refusal.http_status(), &refusal.body(), pretty);
    if let Some(challenge) = refusal.challenge {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    answer
}

pub(super) fn with_type(status: StatusCode, body: String, content_type: &'static str) -> Answer {
    let mut answer = Response::new(Payload::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
