//! The thread that writes, so that a slow disk holds up nothing but the log.

use std::{io, sync::mpsc, thread};

use tokio::sync::oneshot;

use super::sink::Sink;

/// Something to do with the log.
type Job = Box<dyn FnOnce(&mut Sink) + Send>;

/// The thread. It ends when this is dropped.
pub(super) struct Writer(mpsc::SyncSender<Job>);

/// The thread is gone, by a panic: a defect.
#[derive(Debug, thiserror::Error)]
#[error("the thread that writes the audit log is gone")]
pub(super) struct Gone;

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system refuses another thread.
    pub(super) fn start(mut sink: Sink) -> io::Result<Self> {
        let (sender, jobs) = mpsc::sync_channel::<Job>(1);
        thread::Builder::new().name("audit".to_owned()).spawn(move || {
            for job in jobs {
                job(&mut sink);
            }
        })?;
        Ok(Self(sender))
    }

    /// Does `job` on the thread, and waits for its end. One at a time: this takes the writer for itself.
    ///
    /// # Errors
    ///
    /// The thread is gone, and with it what the job held.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Sink) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |sink| {
            // Nobody waits any more when the runtime has ended.
            let _ = done.send(job(sink));
        });
        // There is room: the thread has taken the last job, which was waited for.
        self.0.try_send(job).map_err(|_| Gone)?;
        outcome.await.map_err(|_| Gone)
    }
}
