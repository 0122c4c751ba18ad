//! The `countermand` program: parse, run, exit code.

use std::{io::Write, process::ExitCode};

use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    // One thread does all the work. A call is a few dozen microseconds between two sockets, so that one core
    // carries tens of thousands of them a second where Google allows ten; several threads would cost each
    // call twice as much, for waking one another and for writing each answer by itself.
    let runtime = Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => to_the_end(runtime, countermand::cli::run()),
        Err(error) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "countermand: the runtime cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What has to be written or answered is so when `work` ends. Left over may be a thread that asks the
/// resolver or reads a file, for as long as these take: nobody wants to know any more, and the process would
/// outlive its drain by it.
fn to_the_end(runtime: Runtime, work: impl Future<Output = ExitCode>) -> ExitCode {
    let exit = runtime.block_on(work);
    runtime.shutdown_background();
    exit
}

#[cfg(test)]
mod tests {
    use std::{process::ExitCode, sync::mpsc, thread, time::Duration};

    use tokio::{runtime::Builder, sync::oneshot, task::spawn_blocking};

    use super::to_the_end;

    #[test]
    fn a_thread_that_hangs_does_not_hold_the_process() {
        let (release, hung) = mpsc::channel::<()>();
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().build().expect("a runtime");
            let exit = to_the_end(runtime, async {
                let (hang, hangs) = oneshot::channel();
                drop(spawn_blocking(move || (hang.send(()), hung.recv())));
                hangs.await.expect("it hangs");
                ExitCode::from(3)
            });
            end.send(exit).expect("waited for");
        });
        assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(ExitCode::from(3)));
        drop(release);
    }
}
