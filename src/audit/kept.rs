//! Lines that are not in the log yet, and who waits for them.

use tokio::sync::oneshot;

use super::Unwritten;

/// How much is kept of lines that cannot be written, in bytes: those of some ten thousand calls. Refusals may
/// take half of it.
const MOST: usize = 16 * 1024 * 1024;

/// Tells a call whether its line is written.
pub(super) type Written = oneshot::Sender<Result<(), Unwritten>>;

#[derive(Default)]
pub(super) struct Kept {
    lines: Vec<u8>,
    /// Who waits, and where their line ends.
    waiting: Vec<(usize, Written)>,
    /// Who waits for a line that there was no room for.
    without: Vec<Written>,
    lost: u64,
}

impl Kept {
    /// Keeps a line, if there is room: there is, but for times of trouble.
    pub(super) fn take(&mut self, line: &[u8], written: Written) {
        if self.keep(line, MOST) {
            self.waiting.push((self.lines.len(), written));
        } else {
            self.without.push(written);
        }
    }

    /// Keeps a line that nobody waits for, if there is plenty of room.
    pub(super) fn take_refusal(&mut self, line: &[u8]) {
        self.keep(line, MOST / 2);
    }

    fn keep(&mut self, line: &[u8], most: usize) -> bool {
        if self.lines.len() + line.len() > most {
            self.lost += 1;
            return false;
        }
        self.lines.extend_from_slice(line);
        true
    }

    /// The lines, to be written, and to be brought back to [`Self::written`] before another is taken.
    pub(super) fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.lines)
    }

    /// The first `written` bytes of the lines are in the log, and those who wait for them are told.
    pub(super) fn written(&mut self, mut lines: Vec<u8>, written: usize) {
        lines.drain(..written);
        self.lines = lines;
        let still_waiting = self.waiting.partition_point(|(end, _)| *end <= written);
        for (_, waiting) in self.waiting.drain(..still_waiting) {
            answer(waiting, Ok(()));
        }
    }

    /// The lines that were lent do not come back.
    pub(super) fn lose(&mut self) {
        self.lost += self.waiting.len() as u64;
    }

    /// Tells all who still wait what to make of it that their line is not in the log.
    pub(super) fn answer_all(&mut self, verdict: Result<(), Unwritten>) {
        let waiting = self.waiting.drain(..).map(|(_, waiting)| waiting);
        for waiting in waiting.chain(self.without.drain(..)) {
            answer(waiting, verdict);
        }
    }

    /// Forgets how many lines there was no room for, and answers it. Nothing is kept any more.
    pub(super) fn begin_anew(&mut self) -> u64 {
        // It may have grown to many times what it needs.
        self.lines = Vec::new();
        std::mem::take(&mut self.lost)
    }

    /// How many lines are kept.
    pub(super) fn lines(&self) -> u64 {
        self.lines.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// How many lines there was no room for.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

/// A call that is gone needs no answer.
fn answer(waiting: Written, written: Result<(), Unwritten>) {
    let _ = waiting.send(written);
}
