//! The audit log: one JSON object per line for every call of the contract's five methods. A response is sent after
//! its line was written to the operating system.
//!
//! A call collects facts in its [`Record`]. At its end, [`line`](mod@line) formats the facts. Calls append their
//! lines to one `buffer`. The `writer` thread writes the lines to the `sink`, so that a slow disk delays only the
//! calls whose lines are in the write.

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio::{task::AbortHandle, time::timeout};

use crate::{background::Background, telemetry::metrics::AuditMetrics};

mod buffer;
mod closed_stream;
mod json;
pub mod line;
pub mod record;
pub mod settings;
mod sink;
mod writer;

pub use line::Arrival;
pub use record::{Membership, Method, Record};

use buffer::{Buffer, Missing};
use settings::OnFailure;
use sink::Sink;
use writer::Output;

/// The maximum time for which [`Audit::end`] waits for the last lines.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit(Arc<Handle>);

/// Ends the thread and the task when the last clone of the log is dropped.
struct Handle {
    buffer: Arc<Buffer>,
    stall_watch: AbortHandle,
}

/// The line of a call is not written, and `on_failure` is `Fail`. The line is kept for a later write, within the
/// memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct Unwritten;

impl Audit {
    /// Opens the log and starts its thread. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or its incomplete last line cannot be terminated; the text names the file. Or the
    /// system cannot start a thread.
    pub fn start(
        settings: &settings::Audit,
        metrics: AuditMetrics,
        background: &Background,
    ) -> io::Result<Self> {
        let settings::Audit { file, on_failure } = settings;
        let stall_timeout = match on_failure {
            OnFailure::Fail => Duration::from_secs(5),
            OnFailure::Continue => Duration::from_secs(1),
        };
        Self::start_with(Sink::open(file)?, *on_failure, stall_timeout, metrics, background)
    }

    fn start_with(
        output: impl Output,
        on_failure: OnFailure,
        stall_timeout: Duration,
        metrics: AuditMetrics,
        background: &Background,
    ) -> io::Result<Self> {
        let buffer = Arc::new(Buffer::new(on_failure, stall_timeout));
        metrics.queued_lines.read_value_with({
            let buffer = Arc::downgrade(&buffer);
            move || buffer.upgrade().map_or(0.0, |buffer| buffer.missing().kept as f64)
        });
        writer::start(Arc::clone(&buffer), output, metrics, background)?;
        let stall_watch = writer::watch_stalls(Arc::clone(&buffer));
        let stall_watch = background.spawn("audit log stall watch", stall_watch).abort_handle();
        Ok(Self(Arc::new(Handle { buffer, stall_watch })))
    }

    /// Whether to refuse new calls because their lines could not be written: `on_failure` is `Fail`, and the latest
    /// write failed or takes longer than 5 seconds.
    #[must_use]
    pub fn is_refusing(&self) -> bool {
        self.0.buffer.is_refusing()
    }

    /// Appends a line, which must end with a newline, and waits until the line is written to the operating system.
    /// A drop of the future does not prevent the write.
    ///
    /// # Errors
    ///
    /// The line is not written, and `on_failure` is `Fail`. With `Continue`, the result is `Ok` after at most one
    /// second.
    pub fn write(&self, line: Vec<u8>) -> impl Future<Output = Result<(), Unwritten>> {
        let buffer = &self.0.buffer;
        let ticket = buffer.append(&line);
        async move {
            let is_written = match ticket {
                Some(ticket) => ticket.wait().await,
                None => false,
            };
            if is_written || buffer.on_failure == OnFailure::Continue { Ok(()) } else { Err(Unwritten) }
        }
    }

    /// Keeps the line of a call that was refused because the log cannot be written. The line is lost when the
    /// memory for such lines is full.
    pub fn keep_refusal(&self, line: Vec<u8>) {
        self.0.buffer.append_refusal(&line);
    }

    /// Reopens the file by its name, because the old file may have been renamed. If the new file cannot be opened,
    /// logs the error and continues with the old file.
    pub fn reopen(&self) {
        self.0.buffer.reopen();
    }

    /// Writes the appended lines and ends. Later lines are not written. Logs the number of lines that could not be
    /// written, also when the future is dropped.
    pub async fn end(&self) {
        let buffer = &self.0.buffer;
        let report = ReportMissing(buffer);
        buffer.close();
        // After a timeout, the report has the number of missing lines.
        let _ = timeout(END_TIMEOUT, buffer.ended()).await;
        drop(report);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.buffer.close();
        self.stall_watch.abort();
    }
}

/// Logs the number of missing lines when dropped.
struct ReportMissing<'a>(&'a Buffer);

impl Drop for ReportMissing<'_> {
    fn drop(&mut self) {
        let Missing { kept, lost } = self.0.missing();
        let lost = lost + kept;
        if lost > 0 {
            tracing::error!(lost, "the audit log could not be written to the end");
        }
    }
}

#[cfg(test)]
mod tests;
