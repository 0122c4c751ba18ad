//! The body of a response, which holds the call's permit until it is written.

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

use super::{
    caller_limit::CallerSlot,
    write_stall::{PendingResponse, WriteStalls},
};

/// The permits of a call and the token that a drain waits for, held until the response is written.
pub(super) struct CallGuard {
    _permit: OwnedSemaphorePermit,
    _caller: Option<CallerSlot>,
    _in_flight: TaskTrackerToken,
    pending: Option<PendingResponse>,
}

impl CallGuard {
    pub(super) fn new(permit: OwnedSemaphorePermit, in_flight: TaskTrackerToken) -> Self {
        Self { _permit: permit, _caller: None, _in_flight: in_flight, pending: None }
    }

    /// Also holds the slot of the caller.
    pub(super) fn hold(&mut self, slot: Option<CallerSlot>) {
        self._caller = slot;
    }
}

/// The body of a response. The message owns the [`CallGuard`]. h2 drops the message when its last byte is written,
/// or when the stream has ended.
///
/// The end of the body is too early for the drop: h2 buffers the part of the message that exceeds the caller's
/// flow-control window. The buffered part uses memory, and a drain must wait for it.
#[derive(Default)]
pub(super) struct ResponseBody {
    body: Body,
    guard: Option<CallGuard>,
}

impl ResponseBody {
    pub(super) fn new(body: Body, guard: Option<CallGuard>) -> Self {
        Self { body, guard }
    }

    /// Starts the timer for writing the response, if the response holds a permit.
    pub(super) fn start_writing(&mut self, stalls: &Arc<WriteStalls>) {
        if let Some(guard) = &mut self.guard {
            guard.pending = Some(stalls.start());
        }
    }
}

impl From<Body> for ResponseBody {
    fn from(body: Body) -> Self {
        Self { body, guard: None }
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
        // A response of the contract is one message in one chunk.
        let chunk = |bytes| Chunk { bytes, guard: self.guard.take() };
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
    guard: Option<CallGuard>,
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
            && let Some(pending) = self.guard.as_mut().and_then(|guard| guard.pending.as_mut())
        {
            pending.progress(count);
        }
    }
}
