//! The lines that are not written yet, shared by the calls and the writer thread.
//!
//! A call appends its line while it holds a lock. The writer thread takes all lines at once, writes them, and
//! settles their [`Batch`], with one notification for all its calls.

use std::{
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::yield_now};
use tokio_util::sync::CancellationToken;

use super::settings::OnFailure;

/// The maximum size of unwritten lines in memory, in bytes: the lines of tens of thousands of calls.
const MAX_UNWRITTEN: usize = 16 * 1024 * 1024;

/// The maximum size of unwritten lines to which the line of a refused call is added, in bytes.
const MAX_UNWRITTEN_FOR_REFUSALS: usize = MAX_UNWRITTEN / 2;

pub(super) struct Buffer {
    pub(super) on_failure: OnFailure,
    /// The maximum time for which calls wait for a write.
    stall_timeout: Duration,
    is_refusing: AtomicBool,
    state: Mutex<BufferState>,
    /// Wakes the writer thread.
    work: Condvar,
    /// Cancelled when the writer thread has ended.
    ended: CancellationToken,
}

struct BufferState {
    condition: Condition,
    /// The lines that the writer thread has not taken yet.
    lines: Vec<u8>,
    /// The number of lines in `lines`.
    new: u64,
    /// The calls that wait for `lines`.
    batch: Arc<Batch>,
    /// The number of bytes that the writer thread has taken and not written.
    taken: usize,
    /// The write in progress.
    writing: Option<PendingWrite>,
    /// The number of lines in `lines` and with the writer thread.
    unwritten: u64,
    /// The number of lines that were dropped since the last successful write.
    lost: u64,
    /// The writer thread must take `lines` now.
    is_due: bool,
    /// The writer thread must reopen the file.
    must_reopen: bool,
    is_writer_waiting: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Lines are kept, and their calls wait for the write.
    Writable,
    /// The latest write failed, or takes too long. Lines are kept, and no call waits.
    Unwritable,
    /// The log is ending or has ended. Lines are dropped.
    Closed,
}

struct PendingWrite {
    since: Instant,
    batch: Arc<Batch>,
}

/// Work for the writer thread.
pub(super) struct Job {
    pub(super) must_reopen: bool,
    /// The thread ends after this job.
    pub(super) is_last: bool,
    /// The number of lines that were taken.
    pub(super) new_lines: u64,
}

/// The numbers of lines that are not in the log.
pub(super) struct Missing {
    /// Lines that are still in memory.
    pub(super) kept: u64,
    /// Lines that were dropped.
    pub(super) lost: u64,
}

impl Buffer {
    pub(super) fn new(on_failure: OnFailure, stall_timeout: Duration) -> Self {
        let state = BufferState {
            condition: Condition::Writable,
            lines: Vec::new(),
            new: 0,
            batch: Arc::default(),
            taken: 0,
            writing: None,
            unwritten: 0,
            lost: 0,
            is_due: false,
            must_reopen: false,
            is_writer_waiting: false,
        };
        Self {
            on_failure,
            stall_timeout,
            is_refusing: AtomicBool::new(false),
            state: Mutex::new(state),
            work: Condvar::new(),
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.is_refusing.load(Ordering::Relaxed)
    }

    /// Appends the line of a call. Returns a ticket to wait for, or `None` if the log cannot be written.
    pub(super) fn append(&self, line: &[u8]) -> Option<Ticket<'_>> {
        let mut state = self.lock();
        let is_first = state.lines.is_empty();
        if !state.keep(line, MAX_UNWRITTEN) || state.condition != Condition::Writable {
            return None;
        }
        let (batch, end) = (Arc::clone(&state.batch), state.lines.len());
        // Not `then_some`, which would create a `Flush` for every line and drop it while the lock is held.
        Some(Ticket { batch, end, flush: is_first.then(|| Flush(self)) })
    }

    /// Appends the line of a refused call. No call waits for it.
    pub(super) fn append_refusal(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.keep(line, MAX_UNWRITTEN_FOR_REFUSALS) && state.condition == Condition::Writable {
            state.is_due = true;
            self.wake_writer(state);
        }
    }

    /// Makes the writer thread write the appended lines.
    fn flush(&self) {
        let mut state = self.lock();
        // After a failure, the writer thread retries at its interval.
        if state.condition == Condition::Writable {
            state.is_due = true;
            self.wake_writer(state);
        }
    }

    /// Makes the writer thread reopen the file before it writes the next lines.
    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        state.must_reopen = true;
        self.wake_writer(state);
    }

    /// Makes the writer thread write the appended lines and end.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        self.set_condition(&mut state, Condition::Closed);
        self.wake_writer(state);
    }

    /// Waits until the writer thread has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) fn missing(&self) -> Missing {
        self.lock().missing()
    }

    /// Waits for work, and moves the lines to the end of `lines`. The writer thread calls this.
    pub(super) fn take(&self, lines: &mut Vec<u8>, retry_at: Option<Instant>) -> Job {
        let mut state = self.lock();
        while !(state.is_due || state.must_reopen || state.condition == Condition::Closed) {
            state.is_writer_waiting = true;
            state = match retry_at.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        state.is_writer_waiting = false;
        state.is_due = false;
        if lines.is_empty() {
            mem::swap(lines, &mut state.lines);
        } else {
            lines.append(&mut state.lines);
        }
        let new_lines = mem::take(&mut state.new);
        state.taken = lines.len();
        state.writing = Some(PendingWrite { since: Instant::now(), batch: mem::take(&mut state.batch) });
        let must_reopen = mem::take(&mut state.must_reopen);
        Job { must_reopen, is_last: state.condition == Condition::Closed, new_lines }
    }

    /// Records that all taken lines are written. Returns the number of lost lines, if lines were lost or the log
    /// was not writable before.
    pub(super) fn write_succeeded(&self) -> Option<u64> {
        let mut state = self.lock();
        let written = mem::take(&mut state.taken);
        state.unwritten = state.new;
        if let Some(write) = state.writing.take() {
            write.batch.settle(written);
        }
        let has_recovered = state.condition == Condition::Unwritable;
        if has_recovered {
            self.set_condition(&mut state, Condition::Writable);
            // No call flushes the lines that were appended since the failure.
            state.is_due = !state.lines.is_empty();
        }
        let lost = mem::take(&mut state.lost);
        (has_recovered || lost > 0).then_some(lost)
    }

    /// Records that the first `written` bytes, which are `written_lines` lines, are written. The remaining `left`
    /// bytes stay with the writer thread.
    pub(super) fn write_failed(&self, written: usize, written_lines: u64, left: usize) -> Missing {
        let mut state = self.lock();
        state.taken = left;
        state.unwritten -= written_lines;
        state.is_due = false;
        // Before the calls are released, so that they find the log unwritable.
        if state.condition == Condition::Writable {
            self.set_condition(&mut state, Condition::Unwritable);
        }
        if let Some(write) = state.writing.take() {
            write.batch.settle(written);
        }
        state.release_calls();
        state.missing()
    }

    /// Records that the writer thread has ended, by [`Self::close`] or by a panic.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        self.set_condition(&mut state, Condition::Closed);
        state.release_calls();
        drop(state);
        self.ended.cancel();
    }

    /// Releases the waiting calls when a write takes too long. Returns the time until the next check, and whether
    /// the log became unwritable.
    pub(super) fn check_stall(&self) -> (Duration, bool) {
        let mut state = self.lock();
        let elapsed = state.writing.as_ref().map_or(Duration::ZERO, |write| write.since.elapsed());
        if elapsed < self.stall_timeout {
            return (self.stall_timeout - elapsed, false);
        }
        let is_new = state.condition == Condition::Writable;
        if is_new {
            self.set_condition(&mut state, Condition::Unwritable);
        }
        state.release_calls();
        (self.stall_timeout, is_new)
    }

    fn set_condition(&self, state: &mut BufferState, condition: Condition) {
        state.condition = condition;
        let is_refusing = condition != Condition::Writable && self.on_failure == OnFailure::Fail;
        self.is_refusing.store(is_refusing, Ordering::Relaxed);
    }

    /// Wakes the writer thread if it waits. A wake-up is a system call.
    fn wake_writer(&self, mut state: MutexGuard<'_, BufferState>) {
        if mem::take(&mut state.is_writer_waiting) {
            // Otherwise the thread would wait for the lock.
            drop(state);
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BufferState> {
        // A panic cannot leave the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BufferState {
    /// Keeps a line, unless the unwritten lines would exceed `max` bytes.
    fn keep(&mut self, line: &[u8], max: usize) -> bool {
        if self.condition == Condition::Closed || self.taken + self.lines.len() + line.len() > max {
            self.lost += 1;
            return false;
        }
        self.lines.extend_from_slice(line);
        self.new += 1;
        self.unwritten += 1;
        true
    }

    /// Releases the calls that wait for unwritten lines.
    fn release_calls(&mut self) {
        if let Some(write) = &self.writing {
            write.batch.settle(0);
        }
        mem::take(&mut self.batch).settle(0);
    }

    fn missing(&self) -> Missing {
        Missing { kept: self.unwritten, lost: self.lost }
    }
}

/// The calls whose lines are in the same write.
#[derive(Default)]
struct Batch {
    /// The number of bytes of the batch that were written when its calls were released.
    written: OnceLock<usize>,
    settled: Notify,
}

impl Batch {
    /// Releases the calls. Has an effect only the first time.
    fn settle(&self, written: usize) {
        if self.written.set(written).is_ok() {
            // A wake-up from another thread is a system call, so only one call is woken. This call wakes the others
            // on its thread. If its future is dropped, `Notify` wakes another call.
            self.settled.notify_one();
        }
    }

    async fn written(&self) -> usize {
        loop {
            let settled = self.settled.notified();
            if let Some(written) = self.written.get() {
                self.settled.notify_waiters();
                return *written;
            }
            settled.await;
        }
    }
}

/// Waits for the write of a line.
pub(super) struct Ticket<'a> {
    batch: Arc<Batch>,
    /// The end of the line in its batch, in bytes.
    end: usize,
    /// `Some` for the first line of a batch.
    flush: Option<Flush<'a>>,
}

impl Ticket<'_> {
    /// Waits for the write, or for its stall timeout. Returns whether the line is written.
    pub(super) async fn wait(self) -> bool {
        if let Some(flush) = self.flush {
            // Other calls that end in the same turn of the runtime then append their lines to this batch. A wake-up
            // of the writer thread costs more than many lines.
            yield_now().await;
            drop(flush);
        }
        self.end <= self.batch.written().await
    }
}

/// Flushes the buffer when dropped, so that a batch is also written when its first call is dropped.
struct Flush<'a>(&'a Buffer);

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        self.0.flush();
    }
}
