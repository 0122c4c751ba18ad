//! The body of a response, which holds its call's permit until it has been written.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Status, body::Body};

use super::write_stall::{Unwritten, WriteStalls};

/// The permit of a call and the token that a drain waits for, held until the response has been written.
pub(super) struct Hold {
    _permit: OwnedSemaphorePermit,
    _in_flight: TaskTrackerToken,
    unwritten: Option<Unwritten>,
}

impl Hold {
    pub(super) fn new(permit: OwnedSemaphorePermit, in_flight: TaskTrackerToken) -> Self {
        Self { _permit: permit, _in_flight: in_flight, unwritten: None }
    }
}

/// The body of a response. What the call holds goes with the message to HTTP/2, which drops it when the last byte has
/// been written, or cannot be written any more.
///
/// The end of the body as such says nothing of that: HTTP/2 takes the message whole, and keeps the part for which the
/// caller's flow-control window is too small. Until then the message takes memory, and a drain would cut it off.
#[derive(Default)]
pub(super) struct ResponseBody {
    body: Body,
    hold: Option<Hold>,
}

impl ResponseBody {
    pub(super) fn new(body: Body, hold: Option<Hold>) -> Self {
        Self { body, hold }
    }

    /// The response is handed to HTTP/2: the time in which the caller must take it starts, if it holds a permit.
    pub(super) fn start_writing(&mut self, stalls: &Arc<WriteStalls>) {
        if let Some(hold) = &mut self.hold {
            hold.unwritten = Some(stalls.start());
        }
    }
}

impl From<Body> for ResponseBody {
    fn from(body: Body) -> Self {
        Self { body, hold: None }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Chunk;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // A response of the contract is one message, and a message is one chunk.
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

/// A message that is being written.
pub(super) struct Chunk {
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
            && let Some(unwritten) = self.hold.as_mut().and_then(|hold| hold.unwritten.as_mut())
        {
            unwritten.progress(count);
        }
    }
}
