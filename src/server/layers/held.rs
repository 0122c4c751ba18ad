//! An answer that has not been sent yet.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Status, body::Body};

use crate::server::unsent::Wait;

/// What a call in flight holds: one of the places, and a token that a drain waits for.
pub(super) struct Hold {
    _place: OwnedSemaphorePermit,
    _call: TaskTrackerToken,
    /// Once HTTP/2 has the answer.
    wait: Option<Wait>,
}

impl Hold {
    pub(super) fn new(place: OwnedSemaphorePermit, call: TaskTrackerToken) -> Self {
        Self { _place: place, _call: call, wait: None }
    }
}

/// The body of an answer. What the call holds goes with the message to HTTP/2, which drops it when the last byte
/// has been written, or can no longer be: the caller has reset the stream, or the connection is gone. It ends when
/// the answer has been left for too long ([`crate::server::unsent`]).
///
/// Until then it takes memory, and a drain would cut it off. When the body was read says nothing of that: HTTP/2
/// takes it whole, and keeps what the caller's windows do not let pass.
#[derive(Default)]
pub(crate) struct Held {
    body: Body,
    hold: Option<Hold>,
}

impl Held {
    pub(super) fn new(body: Body, hold: Option<Hold>) -> Self {
        Self { body, hold }
    }

    /// From now on the caller is waited for, if the answer holds anything.
    pub(in crate::server) fn waits(&mut self, begin: impl FnOnce() -> Wait) {
        if let Some(hold) = &mut self.hold {
            hold.wait = Some(begin());
        }
    }
}

/// An answer that holds nothing.
impl From<Body> for Held {
    fn from(body: Body) -> Self {
        Self { body, hold: None }
    }
}

impl http_body::Body for Held {
    type Data = Chunk;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // An answer of the contract is one message, and a message is one chunk.
        let chunk = |bytes| Chunk { bytes, hold: self.hold.take() };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A message on its way.
pub(crate) struct Chunk {
    bytes: Bytes,
    hold: Option<Hold>,
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if self.bytes.has_remaining()
            && let Some(wait) = self.hold.as_mut().and_then(|hold| hold.wait.as_mut())
        {
            wait.progress(count);
        }
    }
}
