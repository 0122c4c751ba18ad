use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::*;
use super::{settings::Destination, sink::WriteError};
use crate::telemetry::metrics::Metrics;

/// A timeout that is longer than any step on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A stall timeout that a test can wait for.
const STALL_TIMEOUT: Duration = Duration::from_millis(100);

fn metrics() -> AuditMetrics {
    Metrics::new().0.audit
}

/// A directory with the log in it.
struct LogDir(tempfile::TempDir);

impl LogDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A directory in which every write of the log fails as on a full disk.
    fn full() -> Self {
        let dir = Self::new();
        symlink("/dev/full", dir.log()).unwrap();
        dir
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("audit.jsonl")
    }

    fn start(&self, on_failure: OnFailure) -> Audit {
        let settings = settings::Audit { file: Destination::File(self.log()), on_failure };
        Audit::start(&settings, metrics(), &Background::unsupervised()).unwrap()
    }

    /// Makes the next write succeed.
    fn repair(&self) {
        fs::remove_file(self.log()).unwrap();
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

async fn write(audit: &Audit, line: &str) -> Result<(), Unwritten> {
    timeout(LIMIT, audit.write(line.as_bytes().to_vec())).await.expect("a result")
}

/// Polls for a state that has no notification.
async fn eventually(mut is_reached: impl FnMut() -> bool) {
    timeout(LIMIT, async {
        while !is_reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("in time");
}

#[tokio::test]
async fn a_line_is_in_the_file_when_its_write_completes() {
    let dir = LogDir::new();
    let audit = dir.start(OnFailure::Fail);
    for nth in 1..=3 {
        write(&audit, &format!("{nth}\n")).await.unwrap();
        assert_eq!(text(&dir.log()).lines().count(), nth);
    }
    let mode = fs::metadata(dir.log()).unwrap().permissions().mode();
    assert_eq!(mode & 0o027, 0, "only the owner may write, and others may not read");
}

#[tokio::test]
async fn thousands_of_concurrent_lines_are_written_completely() {
    let dir = LogDir::new();
    let audit = dir.start(OnFailure::Fail);
    let lines: Vec<_> = (0..5000).map(|nth| format!("{nth} {}\n", "x".repeat(nth % 500))).collect();
    let written = join_all(lines.iter().map(|line| write(&audit, line))).await;
    assert!(written.iter().all(Result::is_ok));
    let sorted = |log: &str| log.split_inclusive('\n').map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(sorted(&text(&dir.log())) == sorted(&lines.concat()), "every line once");
}

#[tokio::test]
async fn a_file_is_appended_to_and_its_incomplete_last_line_is_terminated() {
    let dir = LogDir::new();
    fs::write(dir.log(), "old\nbroken o").unwrap();
    let audit = dir.start(OnFailure::Fail);
    write(&audit, "new\n").await.unwrap();
    assert_eq!(text(&dir.log()), "old\nbroken o\nnew\n");
}

#[tokio::test]
async fn a_reopened_log_writes_to_a_new_file_after_a_rename() {
    let dir = LogDir::new();
    let audit = dir.start(OnFailure::Fail);
    let old = dir.0.path().join("audit.jsonl.1");
    write(&audit, "1\n").await.unwrap();
    fs::rename(dir.log(), &old).unwrap();
    write(&audit, "2\n").await.unwrap();
    audit.reopen();
    write(&audit, "3\n").await.unwrap();
    // The path still refers to the same file.
    audit.reopen();
    write(&audit, "4\n").await.unwrap();
    assert_eq!((text(&old).as_str(), text(&dir.log()).as_str()), ("1\n2\n", "3\n4\n"));
}

#[tokio::test]
async fn a_file_that_cannot_be_reopened_loses_no_line() {
    let dir = LogDir::new();
    let audit = dir.start(OnFailure::Fail);
    let old = dir.0.path().join("old");
    fs::rename(dir.log(), &old).unwrap();
    fs::create_dir(dir.log()).unwrap();
    audit.reopen();
    write(&audit, "1\n").await.unwrap();
    assert_eq!(text(&old), "1\n");
}

#[tokio::test]
async fn a_full_disk_refuses_calls_and_their_lines_are_written_later() {
    let dir = LogDir::full();
    let audit = dir.start(OnFailure::Fail);
    assert!(!audit.is_refusing());
    assert_eq!(write(&audit, "1\n").await, Err(Unwritten));
    assert!(audit.is_refusing());
    assert_eq!(write(&audit, "2\n").await, Err(Unwritten), "immediately, without a retry");
    audit.keep_refusal(b"3\n".to_vec());
    dir.repair();
    eventually(|| !audit.is_refusing()).await;
    assert_eq!(text(&dir.log()), "1\n2\n3\n");
    write(&audit, "4\n").await.unwrap();
    assert_eq!(text(&dir.log()), "1\n2\n3\n4\n");
}

#[tokio::test]
async fn a_full_disk_refuses_no_call_when_on_failure_is_continue() {
    let dir = LogDir::full();
    let audit = dir.start(OnFailure::Continue);
    for line in ["1\n", "2\n"] {
        write(&audit, line).await.unwrap();
        assert!(!audit.is_refusing());
    }
    dir.repair();
    eventually(|| fs::read_to_string(dir.log()).is_ok_and(|log| log == "1\n2\n")).await;
}

#[tokio::test]
async fn unwritten_lines_are_limited_and_refusals_may_use_half_of_the_limit() {
    let dir = LogDir::full();
    let audit = dir.start(OnFailure::Fail);
    let line = |mark: char| format!("{}\n", String::from(mark).repeat(1024 * 1024 - 1));
    assert_eq!(write(&audit, &line('a')).await, Err(Unwritten));
    for _ in 0..20 {
        audit.keep_refusal(line('r').into_bytes());
        assert_eq!(write(&audit, "-\n").await, Err(Unwritten));
    }
    for _ in 0..20 {
        assert_eq!(write(&audit, &line('b')).await, Err(Unwritten));
    }
    dir.repair();
    eventually(|| !audit.is_refusing()).await;
    let log = text(&dir.log());
    let count = |mark: char| log.lines().filter(|line| line.starts_with(mark)).count();
    assert_eq!([count('a'), count('r'), count('-'), count('b')], [1, 6, 20, 8]);
}

#[tokio::test]
async fn the_end_writes_all_appended_lines() {
    let dir = LogDir::new();
    let audit = dir.start(OnFailure::Fail);
    let lines = join_all((0..2000).map(|_| write(&audit, "x\n")));
    let (lines, ()) = tokio::join!(lines, async {
        tokio::task::yield_now().await;
        audit.end().await;
        let log = text(&dir.log());
        assert!(!log.is_empty() && log.ends_with('\n'));
    });
    let written = lines.iter().filter(|line| line.is_ok()).count();
    assert_eq!(text(&dir.log()).lines().count(), written, "the result is Ok for written lines only");
    assert_eq!(write(&audit, "late\n").await, Err(Unwritten));
}

/// The writes of a [`TestOutput`].
type Writes = Arc<Mutex<Vec<String>>>;

/// An output that records every write, and runs `before` ahead of each.
struct TestOutput<F> {
    before: F,
    writes: Writes,
}

impl<F: FnMut() + Send + 'static> Output for TestOutput<F> {
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        (self.before)();
        self.writes.lock().unwrap().push(String::from_utf8(lines.to_vec()).unwrap());
        Ok(())
    }
}

/// Starts a log that runs `before` ahead of each write.
fn start_with(
    on_failure: OnFailure,
    stall_timeout: Duration,
    before: impl FnMut() + Send + 'static,
) -> (Audit, Writes) {
    let writes = Writes::default();
    let output = TestOutput { before, writes: Arc::clone(&writes) };
    let audit =
        Audit::start_with(output, on_failure, stall_timeout, metrics(), &Background::unsupervised()).unwrap();
    (audit, writes)
}

/// Starts a log whose writes stall until the returned sender is dropped.
fn start_stalled(on_failure: OnFailure, stall_timeout: Duration) -> (Audit, Writes, mpsc::Sender<()>) {
    let (release, stall) = mpsc::channel();
    let (audit, writes) = start_with(on_failure, stall_timeout, move || _ = stall.recv());
    (audit, writes, release)
}

#[tokio::test]
async fn lines_of_one_turn_of_the_runtime_are_in_one_write() {
    let (audit, writes) = start_with(OnFailure::Fail, LIMIT, || {});
    for _ in 0..3 {
        let calls: Vec<_> = (0..500)
            .map(|_| {
                let audit = audit.clone();
                tokio::spawn(async move { write(&audit, "x\n").await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    }
    let lengths: Vec<_> = writes.lock().unwrap().iter().map(String::len).collect();
    assert_eq!(lengths, [1000; 3]);
}

#[tokio::test]
async fn the_line_of_a_dropped_call_is_written() {
    let (audit, writes) = start_with(OnFailure::Fail, LIMIT, || {});
    drop(audit.write(b"1\n".to_vec()));
    eventually(|| writes.lock().unwrap().concat() == "1\n").await;
}

#[tokio::test]
async fn a_call_completes_when_the_first_calls_of_its_batch_are_dropped() {
    let (audit, writes, release) = start_stalled(OnFailure::Fail, LIMIT);
    let calls: Vec<_> = ["1\n", "2\n", "3\n"]
        .map(|line| {
            let audit = audit.clone();
            tokio::spawn(async move { write(&audit, line).await })
        })
        .into();
    tokio::time::sleep(STALL_TIMEOUT / 10).await;
    drop(release);
    eventually(|| !writes.lock().unwrap().is_empty()).await;
    let [first, second, third] = <[_; 3]>::try_from(calls).unwrap();
    first.abort();
    second.abort();
    third.await.unwrap().unwrap();
    assert_eq!(*writes.lock().unwrap(), ["1\n2\n3\n"]);
}

#[tokio::test]
async fn a_stalled_write_delays_calls_no_longer_than_its_timeout_when_on_failure_is_continue() {
    let (audit, writes, release) = start_stalled(OnFailure::Continue, STALL_TIMEOUT);
    write(&audit, "1\n").await.unwrap();
    let start = Instant::now();
    for _ in 0..100 {
        write(&audit, "2\n").await.unwrap();
    }
    assert!(start.elapsed() < 20 * STALL_TIMEOUT, "no call waits during a known stall");
    assert!(!audit.is_refusing());
    drop(release);
    eventually(|| writes.lock().unwrap().concat() == format!("1\n{}", "2\n".repeat(100))).await;
    assert_eq!(audit.0.buffer.missing().lost, 0);
}

#[tokio::test]
async fn a_stalled_write_refuses_calls_after_its_timeout_when_on_failure_is_fail() {
    let (audit, writes, release) = start_stalled(OnFailure::Fail, STALL_TIMEOUT);
    let first = write(&audit, "1\n");
    let second = async {
        // The thread has taken the first line by then.
        tokio::time::sleep(STALL_TIMEOUT / 10).await;
        write(&audit, "2\n").await
    };
    assert_eq!(tokio::join!(first, second), (Err(Unwritten), Err(Unwritten)));
    assert!(audit.is_refusing());
    assert_eq!(write(&audit, "3\n").await, Err(Unwritten));
    audit.keep_refusal(b"4\n".to_vec());
    drop(release);
    eventually(|| writes.lock().unwrap().concat() == "1\n2\n3\n4\n").await;
    eventually(|| !audit.is_refusing()).await;
    write(&audit, "5\n").await.unwrap();
}

#[tokio::test]
async fn lines_beyond_the_limit_are_lost_and_counted_while_a_write_stalls() {
    let (audit, writes, release) = start_stalled(OnFailure::Continue, STALL_TIMEOUT);
    let line = format!("{}\n", "x".repeat(1024 * 1024 - 1));
    for _ in 0..20 {
        write(&audit, &line).await.unwrap();
    }
    let Missing { kept, lost } = audit.0.buffer.missing();
    assert_eq!((kept, lost), (16, 4));
    drop(release);
    eventually(|| audit.0.buffer.missing().kept == 0).await;
    assert_eq!(writes.lock().unwrap().concat(), line.repeat(16));
}

#[tokio::test]
async fn refusals_beyond_the_limit_are_counted_as_lost() {
    let dir = LogDir::full();
    let audit = dir.start(OnFailure::Fail);
    write(&audit, "1\n").await.unwrap_err();
    for _ in 0..10 {
        audit.keep_refusal(vec![b'\n'; 1024 * 1024]);
    }
    assert_eq!(audit.0.buffer.missing().lost, 3);
}

#[tokio::test]
async fn a_panic_of_the_writer_thread_is_reported_and_releases_the_calls() {
    for (on_failure, result) in [(OnFailure::Fail, Err(Unwritten)), (OnFailure::Continue, Ok(()))] {
        let (background, mut exits) = Background::new();
        let output = TestOutput { before: || panic!("on purpose"), writes: Writes::default() };
        let audit = Audit::start_with(output, on_failure, LIMIT, metrics(), &background).unwrap();
        assert_eq!(write(&audit, "1\n").await, result);
        assert_eq!(timeout(LIMIT, exits.next()).await, Ok("audit log writer"));
        assert_eq!(audit.is_refusing(), result.is_err());
        assert_eq!(write(&audit, "2\n").await, result);
        audit.keep_refusal(b"3\n".to_vec());
        timeout(LIMIT, audit.end()).await.expect("an end");
        let Missing { kept, lost } = audit.0.buffer.missing();
        assert_eq!((kept, lost), (1, 2));
    }
}

// The paused clock skips the timeout of the end. The stalled write uses the real clock.
#[tokio::test(start_paused = true)]
async fn a_stalled_log_ends_and_its_missing_lines_are_counted() {
    let (audit, _writes, _release) = start_stalled(OnFailure::Fail, STALL_TIMEOUT);
    let call = tokio::spawn({
        let audit = audit.clone();
        async move { audit.write(b"1\n".to_vec()).await }
    });
    tokio::task::yield_now().await;
    audit.end().await;
    assert_eq!(audit.0.buffer.missing().kept, 1);
    assert_eq!(call.await.unwrap(), Err(Unwritten), "also after the end");
}

#[tokio::test]
async fn the_thread_ends_when_the_log_is_dropped() {
    let (audit, writes) = start_with(OnFailure::Fail, LIMIT, || {});
    write(&audit, "1\n").await.unwrap();
    drop(audit);
    // The thread owns the output.
    eventually(|| Arc::strong_count(&writes) == 1).await;
}
