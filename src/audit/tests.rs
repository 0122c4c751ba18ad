use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::*;
use crate::config::{Destination, OnFailure};

/// Longer than anything here takes on any machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A directory with the log in it.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A room in which every attempt to write the log finds the disk full.
    fn full() -> Self {
        let room = Self::new();
        symlink("/dev/full", room.log()).unwrap();
        room
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("audit.jsonl")
    }

    fn start(&self, on_failure: OnFailure) -> Audit {
        Audit::start(&config::Audit { destination: Destination::File(self.log()), on_failure }).unwrap()
    }

    /// Makes room on the disk.
    fn mend(&self) {
        fs::remove_file(self.log()).unwrap();
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

async fn write(audit: &Audit, line: &str) -> Result<(), Unwritten> {
    timeout(LIMIT, audit.write(line.as_bytes().to_vec())).await.expect("a word")
}

/// Waits for a state that nobody announces.
async fn eventually(mut is_so: impl FnMut() -> bool) {
    timeout(LIMIT, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("in time");
}

#[tokio::test]
async fn a_line_is_there_when_its_call_hears_of_it() {
    let room = Room::new();
    let audit = room.start(OnFailure::Fail);
    for nth in 1..=3 {
        write(&audit, &format!("{nth}\n")).await.unwrap();
        assert_eq!(text(&room.log()).lines().count(), nth);
    }
    let mode = fs::metadata(room.log()).unwrap().permissions().mode();
    assert_eq!(mode & 0o027, 0, "nobody but the owner writes, and others do not read");
}

#[tokio::test]
async fn thousands_at_once_are_all_written_each_whole() {
    let room = Room::new();
    let audit = room.start(OnFailure::Fail);
    let lines: Vec<_> = (0..5000).map(|nth| format!("{nth} {}\n", "x".repeat(nth % 500))).collect();
    let written = join_all(lines.iter().map(|line| write(&audit, line))).await;
    assert!(written.iter().all(Result::is_ok));
    let sorted = |log: &str| log.split_inclusive('\n').map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(sorted(&text(&room.log())) == sorted(&lines.concat()), "each of them, and nothing else");
}

#[tokio::test]
async fn a_file_is_gone_on_with_and_a_broken_last_line_gets_its_end() {
    let room = Room::new();
    fs::write(room.log(), "old\nbroken o").unwrap();
    let audit = room.start(OnFailure::Fail);
    write(&audit, "new\n").await.unwrap();
    assert_eq!(text(&room.log()), "old\nbroken o\nnew\n");
}

#[tokio::test]
async fn a_renamed_file_is_left_when_the_log_is_reopened() {
    let room = Room::new();
    let audit = room.start(OnFailure::Fail);
    let old = room.0.path().join("audit.jsonl.1");
    write(&audit, "1\n").await.unwrap();
    fs::rename(room.log(), &old).unwrap();
    write(&audit, "2\n").await.unwrap();
    audit.reopen().await;
    write(&audit, "3\n").await.unwrap();
    // Nothing was renamed this time.
    audit.reopen().await;
    write(&audit, "4\n").await.unwrap();
    assert_eq!((text(&old).as_str(), text(&room.log()).as_str()), ("1\n2\n", "3\n4\n"));
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_anew_costs_no_line() {
    let room = Room::new();
    let audit = room.start(OnFailure::Fail);
    let old = room.0.path().join("old");
    fs::rename(room.log(), &old).unwrap();
    fs::create_dir(room.log()).unwrap();
    audit.reopen().await;
    write(&audit, "1\n").await.unwrap();
    assert_eq!(text(&old), "1\n");
}

#[tokio::test]
async fn a_full_disk_is_told_and_what_was_kept_is_written_when_there_is_room() {
    let room = Room::full();
    let audit = room.start(OnFailure::Fail);
    assert!(!audit.is_refusing());
    assert_eq!(write(&audit, "1\n").await, Err(Unwritten));
    assert!(audit.is_refusing());
    assert_eq!(write(&audit, "2\n").await, Err(Unwritten), "at once: nobody waits for the disk");
    audit.keep_refusal(b"3\n".to_vec());
    room.mend();
    eventually(|| !audit.is_refusing()).await;
    assert_eq!(text(&room.log()), "1\n2\n3\n");
    write(&audit, "4\n").await.unwrap();
    assert_eq!(text(&room.log()), "1\n2\n3\n4\n");
}

#[tokio::test]
async fn calls_go_on_without_their_lines_when_that_is_wanted() {
    let room = Room::full();
    let audit = room.start(OnFailure::Continue);
    for line in ["1\n", "2\n"] {
        write(&audit, line).await.unwrap();
        assert!(!audit.is_refusing());
    }
    room.mend();
    eventually(|| fs::read_to_string(room.log()).is_ok_and(|log| log == "1\n2\n")).await;
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_refusals_give_way() {
    let room = Room::full();
    let audit = room.start(OnFailure::Fail);
    let line = |mark: char| format!("{}\n", String::from(mark).repeat(1024 * 1024 - 1));
    assert_eq!(write(&audit, &line('a')).await, Err(Unwritten));
    for _ in 0..20 {
        audit.keep_refusal(line('r').into_bytes());
        assert_eq!(write(&audit, "-\n").await, Err(Unwritten));
    }
    for _ in 0..20 {
        assert_eq!(write(&audit, &line('b')).await, Err(Unwritten));
    }
    room.mend();
    eventually(|| !audit.is_refusing()).await;
    let log = text(&room.log());
    let begins = |mark: char| log.lines().filter(|line| line.starts_with(mark)).count();
    assert_eq!([begins('a'), begins('r'), begins('-'), begins('b')], [1, 6, 20, 8]);
}

#[tokio::test]
async fn the_end_comes_after_every_line_before_it() {
    let room = Room::new();
    let audit = room.start(OnFailure::Fail);
    let lines = join_all((0..2000).map(|_| write(&audit, "x\n")));
    let (lines, ()) = tokio::join!(lines, async {
        tokio::task::yield_now().await;
        audit.end().await;
        let log = text(&room.log());
        assert!(!log.is_empty() && log.ends_with('\n'));
    });
    let written = lines.iter().filter(|line| line.is_ok()).count();
    assert_eq!(text(&room.log()).lines().count(), written, "a call is told the truth");
    assert_eq!(write(&audit, "late\n").await, Err(Unwritten));
}
