//! A child process that does not outlive its test, and what it has printed so far.

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

/// Far longer than anything here takes on any machine: what is not there by then will not come.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A running process. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Printed,
    pub(crate) stderr: Printed,
}

/// How a process ended, and all that it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What a process has printed to one of its outputs.
#[derive(Clone)]
pub(crate) struct Printed(watch::Receiver<String>);

/// The program, in an environment of its own: nothing of the developer's shell reaches it.
pub(crate) fn countermand(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countermand"));
    command.args(words).env_clear();
    command
}

/// The program as a shell starts it after it has done as `preparation` says.
pub(crate) fn countermand_after(preparation: &str, words: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{preparation}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_countermand")]).args(words).env_clear();
    command
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let stdout = Printed::by(child.stdout.take().unwrap());
        let stderr = Printed::by(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it has not been waited for");
        kill(Pid::from_raw(id.try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn end(mut self) -> Ended {
        let Ok(status) = timeout(LIMIT, self.child.wait()).await else {
            panic!("it still runs");
        };
        let (stdout, stderr) = (self.stdout.clone().whole().await, self.stderr.clone().whole().await);
        Ended { code: status.unwrap().code(), stdout, stderr }
    }
}

/// Where a test fails, what the process had to say is of interest.
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
    fn by(output: impl AsyncRead + Unpin + Send + 'static) -> Self {
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

    /// Waits for the lines so far to have in them what is looked for.
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
        found.unwrap_or_else(|| panic!("what was looked for is not in\n{}", self.text()))
    }

    /// Waits for a text.
    pub(crate) async fn has(&self, part: &str) {
        self.see(|text| text.contains(part).then_some(())).await;
    }

    async fn whole(mut self) -> String {
        // It ends when the process has closed the output.
        while self.0.changed().await.is_ok() {}
        self.text()
    }
}

/// Asks again and again, for what nobody announces.
pub(crate) async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
