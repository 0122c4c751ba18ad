//! The thread that writes the lines and retries failed writes.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    buffer::{Buffer, Job},
    settings::OnFailure,
    sink::{Sink, WriteError},
};
use crate::{background::Background, telemetry::metrics::AuditMetrics};

/// The time between a failed write and the next attempt.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The minimum time between two reports of a log that cannot be written.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The maximum capacity of a buffer that is reused. The buffer grows beyond it after a failed write.
const MAX_SPARE_CAPACITY: usize = 1024 * 1024;

/// The destination of lines. The methods block.
pub(super) trait Output: Send + 'static {
    /// See [`Sink::reopen`].
    fn reopen(&mut self) -> io::Result<bool>;
    /// See [`Sink::append`].
    fn append(&mut self, lines: &[u8]) -> Result<(), WriteError>;
}

impl Output for Sink {
    fn reopen(&mut self) -> io::Result<bool> {
        Sink::reopen(self)
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        Sink::append(self, lines)
    }
}

struct LineWriter<O> {
    buffer: Arc<Buffer>,
    output: O,
    /// The lines that were taken from the buffer and are not written yet.
    lines: Vec<u8>,
    retry: Option<RetryState>,
    metrics: AuditMetrics,
}

/// The state of retries after a failed write.
struct RetryState {
    retry_at: Instant,
    reported_at: Instant,
}

/// Starts the thread. It ends when `buffer` is closed.
///
/// # Errors
///
/// The system cannot start a thread.
pub(super) fn start(
    buffer: Arc<Buffer>,
    output: impl Output,
    metrics: AuditMetrics,
    background: &Background,
) -> io::Result<()> {
    let guard = background.guard("audit log writer");
    thread::Builder::new().name("audit".to_owned()).spawn(move || {
        // A panic drops the guards too.
        let _guard = guard;
        let _end = EndGuard(Arc::clone(&buffer));
        LineWriter { buffer, output, lines: Vec::new(), retry: None, metrics }.run();
    })?;
    Ok(())
}

/// Marks the buffer as ended when the thread ends, also by a panic.
struct EndGuard(Arc<Buffer>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<O: Output> LineWriter<O> {
    fn run(mut self) {
        loop {
            let retry_at = self.retry.as_ref().map(|retry| retry.retry_at);
            let Job { must_reopen, is_last, new_lines } = self.buffer.take(&mut self.lines, retry_at);
            if new_lines > 0 {
                self.metrics.batch_lines.observe(new_lines as f64);
            }
            // The operator may have replaced a file that could not be written.
            if must_reopen || self.retry.is_some() {
                self.reopen(must_reopen);
            }
            match self.output.append(&self.lines) {
                Ok(()) => self.succeed(),
                Err(failed) => self.fail(failed),
            }
            if is_last {
                return;
            }
        }
    }

    fn reopen(&mut self, must_reopen: bool) {
        match self.output.reopen() {
            Ok(true) => tracing::info!("reopened the audit log"),
            Ok(false) => {}
            Err(error) if must_reopen => {
                tracing::error!(%error, "failed to reopen the audit log: the old file stays open");
            }
            // The retry of the write reports the error.
            Err(_) => {}
        }
    }

    fn succeed(&mut self) {
        self.retry = None;
        self.lines.clear();
        if self.lines.capacity() > MAX_SPARE_CAPACITY {
            self.lines = Vec::new();
        }
        if let Some(lost) = self.buffer.write_succeeded() {
            tracing::warn!(lost, "the audit log can be written again");
        }
    }

    fn fail(&mut self, WriteError { written, error }: WriteError) {
        let written_lines = self.lines.drain(..written).filter(|byte| *byte == b'\n').count() as u64;
        let missing = self.buffer.write_failed(written, written_lines, self.lines.len());
        self.metrics.write_failures.inc();
        let now = Instant::now();
        let is_report_due =
            self.retry.as_ref().is_none_or(|retry| now >= retry.reported_at + REPORT_INTERVAL);
        let retry = self.retry.get_or_insert(RetryState { retry_at: now, reported_at: now });
        retry.retry_at = now + RETRY_INTERVAL;
        if is_report_due {
            retry.reported_at = now;
            let (kept, lost) = (missing.kept, missing.lost);
            match self.buffer.on_failure {
                OnFailure::Fail => {
                    tracing::error!(%error, kept, lost, "the audit log cannot be written: calls are refused");
                }
                OnFailure::Continue => {
                    tracing::error!(%error, kept, lost, "the audit log cannot be written: calls continue");
                }
            }
        }
    }
}

/// Releases the waiting calls when a write takes too long. Never returns.
pub(super) async fn watch_stalls(buffer: Arc<Buffer>) {
    loop {
        let (next_check, has_stalled) = buffer.check_stall();
        if has_stalled {
            match buffer.on_failure {
                OnFailure::Fail => {
                    tracing::error!("the audit log takes seconds to write: calls are refused");
                }
                OnFailure::Continue => {
                    tracing::error!("the audit log takes seconds to write: calls continue")
                }
            }
        }
        tokio::time::sleep(next_check).await;
    }
}
