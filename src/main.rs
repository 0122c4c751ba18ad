//! The `countermand` program: parse, run, exit code.

use std::{io::Write, process::ExitCode};

use mimalloc::MiMalloc;
use tokio::runtime::{Builder, Runtime};

/// A call makes many small allocations, which cost less here than in glibc. The benchmark uses the same allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // One thread does all the work. A call takes a few dozen microseconds between two sockets: one core serves
    // tens of thousands of calls a second, and Google allows ten. With several threads each call would cost
    // twice as much, because threads wake one another and write each response separately.
    let runtime = Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => run_to_exit(runtime, countermand::cli::run()),
        Err(error) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "countermand: the runtime cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `work` and does not wait for blocking threads: when `work` ends, everything is written and answered. A
/// thread that still resolves a name or reads a file would keep the process alive beyond its drain.
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
    fn a_thread_that_hangs_does_not_hold_the_process() {
        let (release, hung) = mpsc::channel::<()>();
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().build().expect("a runtime");
            let exit = run_to_exit(runtime, async {
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
