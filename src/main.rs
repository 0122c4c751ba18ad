//! The `countermand` program: parse, run, exit code.

use std::{io::Write, process::ExitCode};

fn main() -> ExitCode {
    // One thread does all the work. A call is a few dozen microseconds between two sockets, so that one core
    // carries tens of thousands of them a second where Google allows ten; several threads would cost each
    // call twice as much, for waking one another and for writing each answer by itself.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(countermand::cli::run()),
        Err(error) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "countermand: the runtime cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}
