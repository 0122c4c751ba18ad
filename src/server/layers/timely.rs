//! The time in which a request must have come, whole.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::codegen::StdError;

use crate::{audit::Record, operations::status};

pin_project! {
    /// The body of a request, whose reader is told DEADLINE_EXCEEDED when it has to wait for more beyond a time.
    ///
    /// Until the message is there the call holds its place among those in flight, and nobody below knows of it:
    /// a caller who sends no message, or one byte of it, would hold the place for as long as they like. From then
    /// on the method has its own end, which may be later: a cancel that was sent is carried through.
    pub(crate) struct Timely<B> {
        #[pin]
        body: B,
        deadline: Instant,
        record: Record,
        // None as long as nothing was waited for: most messages come with their headers.
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<B> Timely<B> {
    /// Gives `body` until `deadline`; `record` is told when it breaks off.
    pub(super) fn new(body: B, deadline: Instant, record: Record) -> Self {
        Self { body, deadline, record, timer: None }
    }
}

impl<B> Body for Timely<B>
where
    B: Body,
    B::Error: Into<StdError>,
{
    type Data = B::Data;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, StdError>>> {
        let mut this = self.project();
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            if matches!(frame, Some(Err(_))) {
                // What is made of the rest below looks like a wrong request, and is no word of the caller.
                this.record.disconnected();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(*this.deadline)));
        }
        let timer = this.timer.as_pin_mut().expect("it has been set above");
        ready!(timer.poll(cx));
        let late = status::deadline_exceeded("before the message had come");
        Poll::Ready(Some(Err(late.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
