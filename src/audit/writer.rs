//! The thread that writes the lines, and its retries.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    buffer::{Buffer, Job},
    settings::OnFailure,
    sink::{Failed, Sink},
};
use crate::background::Background;

/// The time between a failed write and the next attempt.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The least time between two reports of a log that cannot be written.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The capacity of a buffer that is kept for the next lines. A failure lets it grow far beyond.
const MAX_SPARE_CAPACITY: usize = 1024 * 1024;

/// The destination of lines. The methods block.
pub(super) trait Output: Send + 'static {
    /// See [`Sink::reopen`].
    fn reopen(&mut self) -> io::Result<bool>;
    /// See [`Sink::append`].
    fn append(&mut self, lines: &[u8]) -> Result<(), Failed>;
}

impl Output for Sink {
    fn reopen(&mut self) -> io::Result<bool> {
        Sink::reopen(self)
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), Failed> {
        Sink::append(self, lines)
    }
}

struct Writer<O> {
    buffer: Arc<Buffer>,
    output: O,
    /// The lines that were taken and are not written yet.
    lines: Vec<u8>,
    failure: Option<Failure>,
}

/// The latest attempt to write failed.
struct Failure {
    retry_at: Instant,
    reported_at: Instant,
}

/// Starts the thread. It ends when `buffer` is closed.
///
/// # Errors
///
/// The system refuses another thread.
pub(super) fn start(buffer: Arc<Buffer>, output: impl Output, background: &Background) -> io::Result<()> {
    let watch = background.watch("audit log writer");
    thread::Builder::new().name("audit".to_owned()).spawn(move || {
        // A panic drops it, too.
        let _watch = watch;
        let _end = End(Arc::clone(&buffer));
        Writer { buffer, output, lines: Vec::new(), failure: None }.run();
    })?;
    Ok(())
}

/// Tells the buffer that the thread has ended, also by a panic.
struct End(Arc<Buffer>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<O: Output> Writer<O> {
    fn run(mut self) {
        loop {
            let retry_at = self.failure.as_ref().map(|failure| failure.retry_at);
            let Job { must_reopen, is_last } = self.buffer.take(&mut self.lines, retry_at);
            // The operator may have replaced a file that cannot be written.
            if must_reopen || self.failure.is_some() {
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
            Ok(true) => tracing::info!("the audit log goes on in a new file"),
            Ok(false) => {}
            Err(error) if must_reopen => {
                tracing::error!(%error, "the audit log cannot be reopened: the old file stays in use");
            }
            // The retry of the write reports what is wrong.
            Err(_) => {}
        }
    }

    fn succeed(&mut self) {
        self.failure = None;
        self.lines.clear();
        if self.lines.capacity() > MAX_SPARE_CAPACITY {
            self.lines = Vec::new();
        }
        if let Some(lost) = self.buffer.write_succeeded() {
            tracing::warn!(lost, "the audit log can be written again");
        }
    }

    fn fail(&mut self, Failed { written, error }: Failed) {
        let written_lines = self.lines.drain(..written).filter(|byte| *byte == b'\n').count() as u64;
        let missing = self.buffer.write_failed(written, written_lines, self.lines.len());
        let now = Instant::now();
        let is_report_due =
            self.failure.as_ref().is_none_or(|failure| now >= failure.reported_at + REPORT_INTERVAL);
        let failure = self.failure.get_or_insert(Failure { retry_at: now, reported_at: now });
        failure.retry_at = now + RETRY_INTERVAL;
        if is_report_due {
            failure.reported_at = now;
            let (kept, lost) = (missing.kept, missing.lost);
            match self.buffer.on_failure {
                OnFailure::Fail => {
                    tracing::error!(%error, kept, lost, "the audit log cannot be written: calls are refused");
                }
                OnFailure::Continue => {
                    tracing::error!(%error, kept, lost, "the audit log cannot be written: calls go on");
                }
            }
        }
    }
}

/// Has calls wait no longer when a write takes too long. Never returns.
pub(super) async fn watch_stalls(buffer: Arc<Buffer>) {
    loop {
        let (next_check, has_stalled) = buffer.check_stall();
        if has_stalled {
            match buffer.on_failure {
                OnFailure::Fail => {
                    tracing::error!("the audit log takes seconds to write: calls are refused");
                }
                OnFailure::Continue => tracing::error!("the audit log takes seconds to write: calls go on"),
            }
        }
        tokio::time::sleep(next_check).await;
    }
}
