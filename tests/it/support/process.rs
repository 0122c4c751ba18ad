//! A child process that does not outlive its test, and its output so far.

use std::{
    future::Future,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

/// The longest time that a test waits for one event. Far longer than any event takes on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A running process. Dropping the value kills the process.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Printed,
    pub(crate) stderr: Printed,
}

/// The exit code of a process and its whole output.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The text that a process has written to stdout or to stderr so far.
#[derive(Clone)]
pub(crate) struct Printed(watch::Receiver<String>);

/// Makes the log text, which tests read. The default is JSON, because standard error is a pipe.
const TEXT_LOG: (&str, &str) = ("COUNTERMAND_LOG_FORMAT", "text");

/// The program with an empty environment, so that the developer's variables do not reach it, except for a log in text.
pub(crate) fn countermand(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countermand"));
    command.args(arguments).env_clear().env(TEXT_LOG.0, TEXT_LOG.1);
    command
}

/// The program, started by a shell after the shell ran `preparation`.
pub(crate) fn countermand_after(preparation: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{preparation}; exec \"$0\" \"$@\"");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_countermand")])
        .args(arguments)
        .env_clear()
        .env(TEXT_LOG.0, TEXT_LOG.1);
    command
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with_stdin(command, Stdio::null())
    }

    pub(crate) fn start_with_stdin(command: &mut Command, stdin: Stdio) -> Self {
        let command = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let stdout = Printed::read(child.stdout.take().unwrap());
        let stderr = Printed::read(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("the process has not been waited for")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the process to exit.
    pub(crate) async fn end(mut self) -> Ended {
        let Ok(status) = timeout(LIMIT, self.child.wait()).await else {
            panic!("the process still runs");
        };
        let (stdout, stderr) =
            (self.stdout.clone().whole_text().await, self.stderr.clone().whole_text().await);
        Ended { code: status.unwrap().code(), stdout, stderr }
    }
}

/// A failed test prints the output of the process.
impl Drop for Process {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}\n{}\n{}", self.child, self.stdout.text(), self.stderr.text());
        }
    }
}

/// Runs a command to its end.
pub(crate) async fn run(command: &mut Command) -> Ended {
    Process::start(command).end().await
}

impl Printed {
    fn read(output: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, printed) = watch::channel(String::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                sender.send_modify(|text| {
                    text.push_str(&line);
                    text.push('\n');
                });
            }
        });
        Self(printed)
    }

    pub(crate) fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until `find` finds its value in the text.
    pub(crate) async fn see<T>(&self, find: impl Fn(&str) -> Option<T>) -> T {
        let mut text = self.0.clone();
        let found = timeout(LIMIT, async {
            loop {
                if let Some(found) = find(&text.borrow_and_update()) {
                    return Some(found);
                }
                if text.changed().await.is_err() {
                    return find(&text.borrow());
                }
            }
        });
        let found = found.await.ok().flatten();
        found.unwrap_or_else(|| panic!("not found in the output:\n{}", self.text()))
    }

    /// Waits until the text contains `part`.
    pub(crate) async fn has(&self, part: &str) {
        self.see(|text| text.contains(part).then_some(())).await;
    }

    async fn whole_text(mut self) -> String {
        // The sender is dropped when the process closes its output.
        while self.0.changed().await.is_ok() {}
        self.text()
    }
}

/// Calls `attempt` every 10 ms until it returns a value. Fails the test after [`LIMIT`].
pub(crate) async fn eventually<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < end, "timed out waiting for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
