//! Waiting for an operation's end: by WaitOperation, or by polling where a server has no such method.

use std::time::Duration;

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use tonic::{Code, Status};

use super::{connect::Server, exit::Exit, failure::Failure, output::Format, progress::Progress};
use crate::proto::longrunning::Operation;

mod pace;

use pace::Pace;

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum Waited {
    /// The operation is done, in whatever way.
    Done(Operation),
    /// It was not when the time was up; its latest state.
    TimedOut(Operation),
    /// The user pressed Ctrl-C.
    Interrupted,
}

/// Waits until the operation is done, the server's deadline or Ctrl-C, and shows that it waits.
///
/// # Errors
///
/// What the server answered, unless it may be otherwise when asked again; and whatever stood in the way,
/// when not one answer came.
pub(crate) async fn wait(server: &Server, name: &str, format: Format) -> Result<Waited, Failure> {
    // Before the user is told anything, and can react to it.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| {
        Failure::new(Status::internal(format!("Ctrl-C cannot be noticed: {error}")), Exit::Failed)
    })?;
    let progress = Progress::start(name, format);
    let ask = async |how| match how {
        Ask::Wait(time) => server.wait(name, time).await,
        Ask::Get => server.get(name).await,
    };
    tokio::select! {
        waited = until_done(server.deadline(), ask) => waited,
        _ = interrupt.recv() => Ok(Waited::Interrupted),
        never = progress.run() => match never {},
    }
}

/// How a server can be asked about an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// WaitOperation, to answer within this time.
    Wait(Duration),
    /// GetOperation.
    Get,
}

/// Asks again and again. A server may answer before the operation is done (it has a limit of its own, it
/// drains), and may be away for a while.
async fn until_done(
    deadline: Instant,
    mut ask: impl AsyncFnMut(Ask) -> Result<Operation, Failure>,
) -> Result<Waited, Failure> {
    // What the last answer needs to arrive before the deadline.
    let margin = (left(deadline) / 10).min(Duration::from_secs(1));
    let mut has_wait = true;
    let mut polls = Pace::polls();
    let mut retries = Pace::retries();
    // What there is to say when the time is up.
    let mut so_far = None;
    loop {
        let began = Instant::now();
        let how = if has_wait { Ask::Wait(left(deadline).saturating_sub(margin)) } else { Ask::Get };
        let pause = match ask(how).await {
            Ok(operation) if operation.done => return Ok(Waited::Done(operation)),
            Ok(operation) => {
                so_far = Some(Ok(Waited::TimedOut(operation)));
                retries.reset();
                let pause = polls.step();
                if has_wait && began.elapsed() >= pause {
                    // The server holds the question for a while: that is pace enough.
                    polls.reset();
                }
                pause.saturating_sub(began.elapsed())
            }
            Err(failure) if has_wait && failure.code() == Code::Unimplemented => {
                has_wait = false;
                continue;
            }
            Err(failure) if may_pass(&failure) => {
                let pause = retries.step().max(failure.retry_delay().unwrap_or_default());
                if !matches!(so_far, Some(Ok(_))) {
                    so_far = Some(Err(if failure.code() == Code::DeadlineExceeded {
                        failure.ending(Exit::TimedOut)
                    } else {
                        failure
                    }));
                }
                pause
            }
            Err(failure) => return Err(failure),
        };
        match so_far.take_if(|_| left(deadline) <= margin) {
            Some(at_the_end) => return at_the_end,
            // A pause that a server names may be beyond any clock.
            None => sleep(pause.min(left(deadline).saturating_sub(margin))).await,
        }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Whether the same question may be answered later: the codes that Google's clients retry.
fn may_pass(failure: &Failure) -> bool {
    matches!(failure.code(), Code::Unavailable | Code::DeadlineExceeded)
}

#[cfg(test)]
mod tests;
