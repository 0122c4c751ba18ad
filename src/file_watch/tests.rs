//! Changes of a file's content, on a paused clock.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::timeout;
use tracing::subscriber::DefaultGuard;

use super::FileWatch;

const SECOND: Duration = Duration::from_secs(1);

/// The log lines of one thread.
#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl Write for CapturedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CapturedLog {
    /// Captures the lines of this thread, which runs the test's whole runtime.
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).without_time();
        let lines = lines.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(lines))
    }

    /// Returns the lines since the last call.
    fn take_lines(&self) -> Vec<String> {
        let text = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        String::from_utf8(text).expect("text").lines().map(str::to_owned).collect()
    }
}

/// Writes a file with this content, and watches it.
fn watched(directory: &TempDir, content: &str) -> (PathBuf, FileWatch) {
    let file = directory.path().join("key.json");
    fs::write(&file, content).expect("written");
    let (watch, read) = FileWatch::open(&file).expect("a file");
    assert_eq!(*read, *content.as_bytes());
    (file, watch)
}

/// Watches the file for `time` and asserts that no change is reported.
async fn assert_unchanged(watch: &mut FileWatch, time: Duration) {
    assert!(timeout(time, watch.changed()).await.is_err(), "no change");
}

#[tokio::test(start_paused = true)]
async fn a_change_after_open_is_returned_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, mut watch) = watched(&directory, "first");
    fs::write(&file, "second").expect("written");
    assert_eq!(*watch.changed().await, *b"second");
    assert_unchanged(&mut watch, 10 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_content_that_is_still_being_written_is_not_returned() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, mut watch) = watched(&directory, "first");
    for part in ["sec", "seco", "secon"] {
        fs::write(&file, part).expect("written");
        assert_unchanged(&mut watch, SECOND * 9 / 10).await;
    }
    // A dropped call of `changed` does not shorten the settle time.
    assert_unchanged(&mut watch, SECOND / 20).await;
    fs::write(&file, "second").expect("written");
    assert_unchanged(&mut watch, SECOND / 20).await;
    assert_eq!(*watch.changed().await, *b"second");
}

#[tokio::test(start_paused = true)]
async fn a_content_that_is_reverted_before_it_settles_is_ignored() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, mut watch) = watched(&directory, "first");
    fs::write(&file, "second").expect("written");
    assert_unchanged(&mut watch, SECOND / 2).await;
    fs::write(&file, "first").expect("written");
    assert_unchanged(&mut watch, 10 * SECOND).await;
}

/// A replacement of the file that makes it unreadable, and a part of the error's text.
type Replacement = (fn(&Path), &'static str);

#[tokio::test(start_paused = true)]
async fn an_unreadable_file_is_logged_once_and_its_return_is_logged_once() {
    let (log, _guard) = CapturedLog::start();
    let replacements: [Replacement; 4] = [
        (|_| {}, "No such file or directory"),
        (|file| fs::create_dir(file).expect("a directory"), "it is not a regular file"),
        (|file| std::os::unix::fs::symlink(file, file).expect("a link"), "symbolic links"),
        (
            |file| nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRUSR).expect("a pipe"),
            "it is not a regular file",
        ),
    ];
    for (replace, cause) in replacements {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, mut watch) = watched(&directory, "first");
        fs::remove_file(&file).expect("removed");
        replace(&file);
        assert_unchanged(&mut watch, 10 * SECOND).await;
        let lines = log.take_lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in ["WARN", "failed to read a watched file", "key.json", cause] {
            assert!(lines[0].contains(part), "{part}: {lines:?}");
        }
        // A dropped call of `changed` does not start a new unreadable period.
        assert_unchanged(&mut watch, 60 * SECOND).await;
        assert!(log.take_lines().is_empty());

        let new = directory.path().join("new");
        fs::write(&new, "first").expect("written");
        // A file cannot be renamed over a directory.
        if file.is_dir() {
            fs::remove_dir(&file).expect("removed");
        }
        fs::rename(&new, &file).expect("renamed");
        assert_unchanged(&mut watch, 10 * SECOND).await;
        let lines = log.take_lines();
        assert!(lines.len() == 1 && lines[0].contains("read a watched file again"), "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_missing_for_a_short_time_is_not_logged() {
    let (log, _guard) = CapturedLog::start();
    let directory = tempfile::tempdir().expect("a directory");
    let (file, mut watch) = watched(&directory, "first");
    for _ in 0..3 {
        fs::remove_file(&file).expect("removed");
        assert_unchanged(&mut watch, 3 * SECOND).await;
        fs::write(&file, "first").expect("written");
        assert_unchanged(&mut watch, 3 * SECOND).await;
    }
    assert_eq!(log.take_lines(), [""; 0]);
}
