//! The audit log: one JSON object a line for every call of the contract's five methods, and no answer
//! before its line is written.
//!
//! A call notes in its [`Record`] what becomes of it; at its end that becomes a line ([`line`](mod@line)). The lines of
//! calls that end at the same time are collected (`collector`) and written at once by a thread of their own
//! (`writer`, `sink`), so that the disk holds nobody but those who wait for their own line.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{mpsc, oneshot};

use crate::config;

mod collector;
mod json;
mod kept;
pub mod line;
pub mod record;
mod sink;
pub mod trace_id;
mod writer;

pub use line::Arrival;
pub use record::{Method, Record};
pub use trace_id::TraceId;

use collector::{Collector, Entry};
use sink::Sink;
use writer::Writer;

/// The lines that may wait to be collected. When there are more, calls wait.
const QUEUE: usize = 1024;

/// The audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::Sender<Entry>,
    is_refusing: Arc<AtomicBool>,
}

/// A line is not in the log, and its call may not be answered as if it were. It is kept and will be written
/// when that is possible again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct Unwritten;

impl Audit {
    /// Opens the log. Must be called within a runtime, which then collects its lines.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or its last line, which a predecessor broke off, cannot be ended; the text
    /// names the file.
    pub fn start(config: &config::Audit) -> io::Result<Self> {
        let config::Audit { destination, on_failure } = config;
        let writer = Writer::start(Sink::open(destination)?)?;
        let (queue, entries) = mpsc::channel(QUEUE);
        let is_refusing = Arc::new(AtomicBool::new(false));
        tokio::spawn(Collector::new(entries, writer, *on_failure, Arc::clone(&is_refusing)).run());
        Ok(Self { queue, is_refusing })
    }

    /// Whether calls are to be refused before anything is done for them, since no line could be written of
    /// them: `on_failure` is `Fail`, and the latest attempt to write failed, or has taken seconds.
    #[must_use]
    pub fn is_refusing(&self) -> bool {
        self.is_refusing.load(Ordering::Relaxed)
    }

    /// Writes a line, and waits until the operating system has it.
    ///
    /// # Errors
    ///
    /// It is not written, and by `on_failure` that matters.
    pub async fn write(&self, line: Vec<u8>) -> Result<(), Unwritten> {
        let (written, answer) = oneshot::channel();
        self.queue.send(Entry::Line(line, written)).await.map_err(|_| Unwritten)?;
        answer.await.unwrap_or(Err(Unwritten))
    }

    /// Keeps the line of a call that was refused since the log cannot be written, to be written when it can.
    /// There may be more of them than there is room for: then it is forgotten.
    pub fn keep_refusal(&self, line: Vec<u8>) {
        let _ = self.queue.try_send(Entry::Refusal(line));
    }

    /// Opens the file anew, under its name, since the old one may have been renamed to be kept. Lines go to
    /// the old one until then, and for ever when the new one cannot be opened, which the log tells.
    pub async fn reopen(&self) {
        // With the collector gone, no line follows either.
        let _ = self.queue.send(Entry::Reopen).await;
    }

    /// Writes every line so far, and ends. Lines that come later are not written.
    pub async fn end(&self) {
        let (ended, end) = oneshot::channel();
        if self.queue.send(Entry::End(ended)).await.is_ok() {
            // An error says that it ended without a word.
            let _ = end.await;
        }
    }
}

#[cfg(test)]
mod tests;
