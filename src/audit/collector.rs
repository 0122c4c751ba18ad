//! Collects lines, has them written, and tells each call when its own is. What cannot be written is kept
//! until it can.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Unwritten,
    kept::{Kept, Written},
    sink::Failed,
    writer::{Gone, Writer},
};
use crate::config::OnFailure;

/// The most entries that are taken from the queue at once.
const BATCH: usize = 1024;

/// How long after a failure writing is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How long writing may take before new calls are refused rather than left to wait for it.
const STALLED: Duration = Duration::from_secs(5);

/// How often the operator is told of a log that cannot be written.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What comes to the collector.
pub(super) enum Entry {
    Line(Vec<u8>, Written),
    Refusal(Vec<u8>),
    Reopen,
    End(oneshot::Sender<()>),
}

pub(super) struct Collector {
    queue: mpsc::Receiver<Entry>,
    writer: Writer,
    on_failure: OnFailure,
    is_refusing: Arc<AtomicBool>,
    kept: Kept,
    reopen: bool,
    trouble: Option<Trouble>,
}

/// The log cannot be written.
struct Trouble {
    retry_at: Instant,
    told_at: Instant,
}

impl Collector {
    pub(super) fn new(
        queue: mpsc::Receiver<Entry>,
        writer: Writer,
        on_failure: OnFailure,
        is_refusing: Arc<AtomicBool>,
    ) -> Self {
        let kept = Kept::default();
        Self { queue, writer, on_failure, is_refusing, kept, reopen: false, trouble: None }
    }

    /// Until it is told to end, or nobody is left who could send a line.
    pub(super) async fn run(mut self) {
        let mut entries = Vec::new();
        let mut ended = None;
        while ended.is_none() {
            let retry_at = self.trouble.as_ref().map(|trouble| trouble.retry_at);
            tokio::select! {
                taken = self.queue.recv_many(&mut entries, BATCH) => if taken == 0 { break },
                () = passes(retry_at) => {}
            }
            // The calls that end in this turn of the runtime are to be in the same write: a change of threads is
            // dear beside a line.
            yield_now().await;
            while entries.len() < BATCH
                && let Ok(entry) = self.queue.try_recv()
            {
                entries.push(entry);
            }
            for entry in entries.drain(..) {
                match entry {
                    Entry::Line(line, written) => self.kept.take(&line, written),
                    Entry::Refusal(line) => self.kept.take_refusal(&line),
                    Entry::Reopen => self.reopen = true,
                    Entry::End(end) => ended = Some(end),
                }
            }
            let must_wait = self.trouble.as_ref().is_some_and(|trouble| Instant::now() < trouble.retry_at);
            if !must_wait || self.reopen || ended.is_some() {
                self.write().await;
            }
            // Nobody waits for a log that cannot be written.
            self.kept.answer_all(match self.on_failure {
                OnFailure::Fail => Err(Unwritten),
                OnFailure::Continue => Ok(()),
            });
        }
        if self.trouble.is_some() {
            let lost = self.kept.lost() + self.kept.lines();
            tracing::error!(lost, "the audit log could not be written to the end");
        }
        if let Some(ended) = ended {
            // Whoever asked may have lost patience.
            let _ = ended.send(());
        }
    }

    /// Writes what is kept, all at once.
    async fn write(&mut self) {
        let (lines, reopen) = (self.kept.lend(), mem::take(&mut self.reopen));
        // In trouble, what the name means may have been mended.
        let look_again = reopen || self.trouble.is_some();
        let done = self.writer.run(move |sink| {
            let reopened = if look_again { sink.reopen() } else { Ok(false) };
            let written = sink.append(&lines);
            (lines, reopened, written)
        });
        let (is_refusing, must_refuse) = (&self.is_refusing, self.on_failure == OnFailure::Fail);
        let done = patiently(done, |is_stalled| {
            is_refusing.store(is_stalled && must_refuse, Ordering::Relaxed);
        });
        let (lines, reopened, written) = match done.await {
            Ok(done) => done,
            Err(Gone) => {
                self.kept.lose();
                return self.fail(&Gone);
            }
        };
        match reopened {
            Ok(true) => tracing::info!("the audit log goes on in a new file"),
            // When writing is tried again, what is wrong is told by what comes of that.
            Err(error) if reopen => {
                tracing::error!(%error, "the audit log cannot be reopened: the old file stays in use");
            }
            Ok(false) | Err(_) => {}
        }
        match written {
            Ok(()) => {
                let all = lines.len();
                self.kept.written(lines, all);
                self.recover();
            }
            Err(Failed { written, error }) => {
                self.kept.written(lines, written);
                self.fail(&error);
            }
        }
    }

    fn fail(&mut self, error: &dyn std::error::Error) {
        let now = Instant::now();
        let mut is_news = self.trouble.is_none();
        let trouble = self.trouble.get_or_insert(Trouble { retry_at: now, told_at: now });
        trouble.retry_at = now + RETRY;
        if now >= trouble.told_at + TELL_EVERY {
            trouble.told_at = now;
            is_news = true;
        }
        if is_news {
            let (kept, lost) = (self.kept.lines(), self.kept.lost());
            match self.on_failure {
                OnFailure::Fail => {
                    tracing::error!(%error, kept, lost, "the audit log cannot be written: calls are refused");
                }
                OnFailure::Continue => {
                    tracing::error!(%error, kept, lost, "the audit log cannot be written: calls go on");
                }
            }
        }
        self.is_refusing.store(self.on_failure == OnFailure::Fail, Ordering::Relaxed);
    }

    fn recover(&mut self) {
        if self.trouble.take().is_some() {
            self.is_refusing.store(false, Ordering::Relaxed);
            let lost = self.kept.begin_anew();
            tracing::warn!(lost, "the audit log can be written again");
        }
    }
}

/// Waits for writing to be done, and tells when that takes too long, and when it is over.
async fn patiently<T>(writing: impl Future<Output = T>, tell: impl Fn(bool)) -> T {
    let mut writing = std::pin::pin!(writing);
    if let Ok(done) = timeout(STALLED, &mut writing).await {
        return done;
    }
    tracing::error!("the audit log takes seconds to write: calls wait");
    tell(true);
    let done = writing.await;
    tell(false);
    done
}

/// When there is something to wait for.
async fn passes(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
