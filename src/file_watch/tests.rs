use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::timeout;
use tracing::subscriber::DefaultGuard;

use super::FileWatch;

const SECOND: Duration = Duration::from_secs(1);

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Of this test's thread, on which its whole runtime is.
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).without_time();
        let lines = lines.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(lines))
    }

    /// The lines since it was last asked.
    fn lines(&self) -> Vec<String> {
        let text = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        String::from_utf8(text).expect("text").lines().map(str::to_owned).collect()
    }
}

fn written(room: &TempDir, content: &str) -> (std::path::PathBuf, FileWatch) {
    let file = room.path().join("key.json");
    fs::write(&file, content).expect("written");
    let (watch, read) = FileWatch::open(&file).expect("a file");
    assert_eq!(**read, *content.as_bytes());
    (file, watch)
}

/// Looks at the file for a while, in which its content does not change.
async fn unchanged(watch: &mut FileWatch, time: Duration) {
    assert!(timeout(time, watch.changed()).await.is_err(), "no change");
}

#[tokio::test(start_paused = true)]
async fn a_change_after_the_content_was_answered_is_seen() {
    let room = tempfile::tempdir().expect("a directory");
    let (file, mut watch) = written(&room, "first");
    fs::write(&file, "second").expect("written");
    assert_eq!(**watch.changed().await, *b"second");
    unchanged(&mut watch, 10 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_content_that_is_still_being_written_is_not_answered() {
    let room = tempfile::tempdir().expect("a directory");
    let (file, mut watch) = written(&room, "first");
    for part in ["sec", "seco", "secon"] {
        fs::write(&file, part).expect("written");
        unchanged(&mut watch, SECOND * 9 / 10).await;
    }
    // However often it is looked away.
    unchanged(&mut watch, SECOND / 20).await;
    fs::write(&file, "second").expect("written");
    unchanged(&mut watch, SECOND / 20).await;
    assert_eq!(**watch.changed().await, *b"second");
}

#[tokio::test(start_paused = true)]
async fn a_content_that_was_there_for_a_moment_is_none() {
    let room = tempfile::tempdir().expect("a directory");
    let (file, mut watch) = written(&room, "first");
    fs::write(&file, "second").expect("written");
    unchanged(&mut watch, SECOND / 2).await;
    fs::write(&file, "first").expect("written");
    unchanged(&mut watch, 10 * SECOND).await;
}

/// What becomes of a file, and how that reads.
type Loss = (fn(&Path), &'static str);

#[tokio::test(start_paused = true)]
async fn a_file_that_stays_unreadable_is_told_once_and_once_when_it_is_back() {
    let (log, _guard) = Log::start();
    let losses: [Loss; 4] = [
        (|_| {}, "No such file or directory"),
        (|file| fs::create_dir(file).expect("a directory"), "it is not a regular file"),
        (|file| std::os::unix::fs::symlink(file, file).expect("a link"), "symbolic links"),
        (
            |file| nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRUSR).expect("a pipe"),
            "it is not a regular file",
        ),
    ];
    for (lose, cause) in losses {
        let room = tempfile::tempdir().expect("a directory");
        let (file, mut watch) = written(&room, "first");
        fs::remove_file(&file).expect("removed");
        lose(&file);
        unchanged(&mut watch, 10 * SECOND).await;
        let told = log.lines();
        assert_eq!(told.len(), 1, "{told:?}");
        for part in ["WARN", "cannot be read any more", "key.json", cause] {
            assert!(told[0].contains(part), "{part}: {told:?}");
        }
        // Looking away in between, as its users do, begins nothing anew.
        unchanged(&mut watch, 60 * SECOND).await;
        assert!(log.lines().is_empty());

        let back = room.path().join("back");
        fs::write(&back, "first").expect("written");
        // A directory gives way to no file.
        if file.is_dir() {
            fs::remove_dir(&file).expect("removed");
        }
        fs::rename(&back, &file).expect("renamed");
        unchanged(&mut watch, 10 * SECOND).await;
        let told = log.lines();
        assert!(told.len() == 1 && told[0].contains("can be read again"), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_for_a_moment_is_not_told() {
    let (log, _guard) = Log::start();
    let room = tempfile::tempdir().expect("a directory");
    let (file, mut watch) = written(&room, "first");
    for _ in 0..3 {
        fs::remove_file(&file).expect("removed");
        unchanged(&mut watch, 3 * SECOND).await;
        fs::write(&file, "first").expect("written");
        unchanged(&mut watch, 3 * SECOND).await;
    }
    assert_eq!(log.lines(), [""; 0]);
}
