//! The `countermand` program.

use std::{io::Write, process::ExitCode};

use mimalloc::MiMalloc;
use tokio::runtime::{Builder, Runtime};

/// A call makes many small allocations, which are cheaper in mimalloc than in glibc. The benchmark uses the same
/// allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // One thread is enough: a call takes a few dozen microseconds of CPU time, and Google allows ten calls a second.
    // With several threads, a call would cost twice as much, because threads wake one another and write each response
    // separately.
    let runtime = Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => run_to_exit(runtime, countermand::cli::run()),
        Err(error) => {
            // Standard error may be closed. The exit code still reports the failure.
            let _ = writeln!(std::io::stderr(), "countermand: the runtime cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `work` and does not wait for blocking threads. A thread that resolves a name or reads a file would keep the
/// process alive after its drain. All output is written when `work` ends.
fn run_to_exit(runtime: Runtime, work: impl Future<Output = ExitCode>) -> ExitCode {
    let exit = runtime.block_on(work);
    runtime.shutdown_background();
    exit
}

#[cfg(test)]
mod tests {
    use std::{process::ExitCode, sync::mpsc, thread, time::Duration};

    use tokio::{runtime::Builder, sync::oneshot, task::spawn_blocking};

    use super::run_to_exit;

    #[test]
    fn a_blocked_thread_does_not_keep_the_process_alive() {
        let (release, hung) = mpsc::channel::<()>();
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().build().expect("a runtime");
            let exit = run_to_exit(runtime, async {
                let (hang, hangs) = oneshot::channel();
                drop(spawn_blocking(move || (hang.send(()), hung.recv())));
                hangs.await.expect("the thread runs");
                ExitCode::from(3)
            });
            end.send(exit).expect("the test waits");
        });
        assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(ExitCode::from(3)));
        drop(release);
    }
}
