//! The lines that are not written yet, shared by the calls and the writer thread.
//!
//! A call appends its line under a lock. The writer thread takes all lines at once, writes them, and settles
//! their [`Batch`]: one notification, however many calls wait for it.

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

/// The most bytes of unwritten lines in memory: the lines of some ten thousand calls.
const MAX_UNWRITTEN: usize = 16 * 1024 * 1024;

/// The most bytes of unwritten lines to which the line of a refused call is added.
const MAX_UNWRITTEN_FOR_REFUSALS: usize = MAX_UNWRITTEN / 2;

pub(super) struct Buffer {
    pub(super) on_failure: OnFailure,
    /// How long a write may take before its calls stop waiting for it.
    stall_timeout: Duration,
    is_refusing: AtomicBool,
    state: Mutex<State>,
    /// Wakes the writer thread.
    work: Condvar,
    /// Cancelled when the writer thread has ended.
    ended: CancellationToken,
}

struct State {
    condition: Condition,
    /// The lines that the writer thread has not taken yet.
    lines: Vec<u8>,
    /// How many lines `lines` has.
    new: u64,
    /// The calls that wait for `lines`.
    batch: Arc<Batch>,
    /// The bytes that the writer thread has taken and not written.
    taken: usize,
    /// The write under way.
    writing: Option<InFlight>,
    /// Lines in `lines` or with the writer thread.
    unwritten: u64,
    /// Lines that were dropped since the log could last be written.
    lost: u64,
    /// The writer thread has to take `lines` now.
    is_due: bool,
    /// The writer thread has to reopen the file.
    must_reopen: bool,
    is_writer_waiting: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Lines are kept, and their calls wait for the write.
    Writable,
    /// The latest write failed, or takes too long. Lines are kept, and no call waits.
    Unwritable,
    /// The log ends or has ended. Lines are dropped.
    Closed,
}

struct InFlight {
    since: Instant,
    batch: Arc<Batch>,
}

/// Work for the writer thread.
pub(super) struct Job {
    pub(super) must_reopen: bool,
    /// The thread ends after this job.
    pub(super) is_last: bool,
}

/// How many lines are not in the log.
pub(super) struct Missing {
    /// Lines that are still in memory.
    pub(super) kept: u64,
    /// Lines that were dropped.
    pub(super) lost: u64,
}

impl Buffer {
    pub(super) fn new(on_failure: OnFailure, stall_timeout: Duration) -> Self {
        let state = State {
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

    /// Appends the line of a call. Returns what the call has to wait for, or `None` when it must not wait
    /// because the log cannot be written.
    pub(super) fn append(&self, line: &[u8]) -> Option<Ticket<'_>> {
        let mut state = self.lock();
        let is_first = state.lines.is_empty();
        if !state.keep(line, MAX_UNWRITTEN) || state.condition != Condition::Writable {
            return None;
        }
        let (batch, end) = (Arc::clone(&state.batch), state.lines.len());
        // Not `then_some`, which would make a `Flush` for every line and drop it under the lock.
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

    /// Has the writer thread write the lines so far.
    fn flush(&self) {
        let mut state = self.lock();
        // After a failure the writer thread retries at its own pace.
        if state.condition == Condition::Writable {
            state.is_due = true;
            self.wake_writer(state);
        }
    }

    /// Has the writer thread reopen the file before it writes the next lines.
    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        state.must_reopen = true;
        self.wake_writer(state);
    }

    /// Has the writer thread write the lines so far and end.
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
        state.new = 0;
        state.taken = lines.len();
        state.writing = Some(InFlight { since: Instant::now(), batch: mem::take(&mut state.batch) });
        Job { must_reopen: mem::take(&mut state.must_reopen), is_last: state.condition == Condition::Closed }
    }

    /// All lines that were taken are written. Returns how many lines were lost when the log could not be
    /// written until now, or dropped lines.
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
            // No call has seen to the flush of lines that came meanwhile.
            state.is_due = !state.lines.is_empty();
        }
        let lost = mem::take(&mut state.lost);
        (has_recovered || lost > 0).then_some(lost)
    }

    /// The first `written` bytes and `written_lines` lines are written. The rest, which are `left` bytes, stays
    /// with the writer thread.
    pub(super) fn write_failed(&self, written: usize, written_lines: u64, left: usize) -> Missing {
        let mut state = self.lock();
        state.taken = left;
        state.unwritten -= written_lines;
        state.is_due = false;
        // Before a call goes on, so that it finds the log refusing.
        if state.condition == Condition::Writable {
            self.set_condition(&mut state, Condition::Unwritable);
        }
        if let Some(write) = state.writing.take() {
            write.batch.settle(written);
        }
        state.release_calls();
        state.missing()
    }

    /// The writer thread has ended, by [`Self::close`] or by a panic.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        self.set_condition(&mut state, Condition::Closed);
        state.release_calls();
        drop(state);
        self.ended.cancel();
    }

    /// Has calls wait no longer when a write takes too long. Returns the time until a write can next have
    /// taken too long, and whether the log became unwritable.
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

    fn set_condition(&self, state: &mut State, condition: Condition) {
        state.condition = condition;
        let is_refusing = condition != Condition::Writable && self.on_failure == OnFailure::Fail;
        self.is_refusing.store(is_refusing, Ordering::Relaxed);
    }

    /// A wake-up is a system call, so a thread that works is not woken.
    fn wake_writer(&self, mut state: MutexGuard<'_, State>) {
        if mem::take(&mut state.is_writer_waiting) {
            // The thread would wait for the lock at once.
            drop(state);
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps a line, unless there would be more than `max` bytes of unwritten lines.
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

    /// Has no call wait for lines that are not written yet.
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
    /// How many bytes of the batch were written when its calls could go on.
    written: OnceLock<usize>,
    settled: Notify,
}

impl Batch {
    /// Lets the calls go on. Only the first time counts.
    fn settle(&self, written: usize) {
        if self.written.set(written).is_ok() {
            // A wake-up from another thread is a system call. The first call wakes the others, on its own
            // thread. When its future is dropped instead, `Notify` passes the wake-up on.
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

/// A line that is to be written.
pub(super) struct Ticket<'a> {
    batch: Arc<Batch>,
    /// The end of the line in its batch, in bytes.
    end: usize,
    /// Only the first line of a batch has it.
    flush: Option<Flush<'a>>,
}

impl Ticket<'_> {
    /// Waits for the write, or for its stall timeout. Returns whether the line is written.
    pub(super) async fn wait(self) -> bool {
        if let Some(flush) = self.flush {
            // Calls that end in the same turn of the runtime append their lines first. A wake-up of the writer
            // thread costs more than many lines.
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
