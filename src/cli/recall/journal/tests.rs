//! Torn lines, other files, and locks.

use std::fs;

use super::*;
use crate::cli::{
    exit::Exit,
    recall::{selection::tests::selection, tracker::RecallCounts},
};

fn name(id: &str) -> String {
    format!("enterprises/LC01/devices/d1/operations/{id}")
}

/// Opens the journal and returns the operations of earlier runs.
fn open(path: &Path) -> Result<(Journal, Vec<JournaledOperation>), JournalError> {
    let opened = Journal::open(path, &selection(&["WIPE"]))?;
    Ok((opened.journal, opened.operations))
}

/// A journal with four operations, and its path.
fn written() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (mut journal, operations) = open(&path).unwrap();
    assert_eq!(operations, []);
    let time = UtcTime::now();
    let names = ["1", "2", "3", "4"].map(name);
    let found = names.each_ref().map(|name| JournalEntry::Found {
        name,
        kind: Some("WIPE"),
        create_time: Some("2026-01-01T00:00:00Z"),
    });
    journal.append(&found).unwrap();
    journal.append(&[JournalEntry::CancelSent { name: &names[1], time }]).unwrap();
    let accepted = names[2..].iter().map(|name| JournalEntry::CancelAccepted { name, time });
    journal.append(&accepted.collect::<Vec<_>>()).unwrap();
    for (name, outcome) in [
        (&names[2], RecallOutcome::Cancelled),
        (&names[3], RecallOutcome::TooLate(Some("NOT_FOUND".to_owned()))),
    ] {
        let (outcome, reason) = (outcome.name(), outcome.reason());
        journal.append(&[JournalEntry::Outcome { name, time, outcome, reason }]).unwrap();
    }
    (directory, path)
}

/// The progress of each operation.
fn states(operations: &[JournaledOperation]) -> Vec<(JournaledCancel, Option<RecallOutcome>)> {
    operations.iter().map(|operation| (operation.cancel, operation.outcome.clone())).collect()
}

#[test]
fn a_later_run_reads_what_the_earlier_ones_wrote() {
    let (_directory, path) = written();
    let (_, operations) = open(&path).unwrap();
    let too_late = RecallOutcome::TooLate(Some("NOT_FOUND".to_owned()));
    let wanted = [
        (JournaledCancel::NotSent, None),
        (JournaledCancel::Unanswered, None),
        (JournaledCancel::Accepted, Some(RecallOutcome::Cancelled)),
        (JournaledCancel::Accepted, Some(too_late)),
    ];
    assert_eq!(states(&operations), wanted);
    assert_eq!(operations[0].name, name("1"));
    assert_eq!(operations[0].create_time.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(operations[0].kind.as_deref(), Some("WIPE"));
}

#[test]
fn a_torn_last_line_is_removed_wherever_it_ends() {
    let (_directory, path) = written();
    let whole = fs::read(&path).unwrap();
    let newlines: Vec<_> = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').collect();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let (mut journal, operations) = open(&path).unwrap_or_else(|error| panic!("{length}: {error}"));
        let complete = newlines.iter().filter(|(index, _)| *index < length).count();
        assert_eq!(operations.len(), complete.saturating_sub(1).min(4), "{length}");
        let next = name("next");
        let next = JournalEntry::Found { name: &next, kind: Some("WIPE"), create_time: None };
        journal.append(&[next]).unwrap();
        drop(journal);
        assert_eq!(open(&path).unwrap().1.last().unwrap().name, name("next"), "{length}");
    }
}

#[test]
fn another_file_is_neither_accepted_nor_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other");
    let other_version = START.replace('1', "2") + "\"selection\":{}}\n";
    for content in ["x", "x\n", "{}", "{}\n", "{\"event\":\"found\",\"name\":\"n\"}\n", &other_version] {
        fs::write(&path, content).unwrap();
        assert!(matches!(open(&path), Err(JournalError::NotAJournal(1))), "{content}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    let (_directory, path) = written();
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.clone() + "not JSON\n" + &whole).unwrap();
    assert!(matches!(open(&path), Err(JournalError::NotAJournal(11))), "{whole}");
    assert!(matches!(open(directory.path()), Err(JournalError::Io(_))));
}

#[test]
fn the_journal_of_another_selection_is_not_used() {
    let (_directory, path) = written();
    let before = fs::read(&path).unwrap();
    let Err(error) = Journal::open(&path, &selection(&["LOCK"])) else { panic!("opened") };
    assert!(error.to_string().contains("type WIPE"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn an_operation_that_the_selection_does_not_have_is_an_error() {
    let (_directory, path) = written();
    let whole = fs::read_to_string(&path).unwrap();
    let other = "enterprises/LC02/devices/d1/operations/1";
    for (name, kind, created) in [
        (&*name("9"), Some("LOCK"), Some("2026-01-01T00:00:00Z")),
        (&name("9"), None, Some("2026-01-01T00:00:00Z")),
        // A name that an earlier line has too.
        (&name("1"), Some("LOCK"), Some("2026-01-01T00:00:00Z")),
        (other, Some("WIPE"), Some("2026-01-01T00:00:00Z")),
        ("enterprises/LC01/devices/d1", Some("WIPE"), Some("2026-01-01T00:00:00Z")),
    ] {
        let line = to_json(&JournalEntry::Found { name, kind, create_time: created });
        fs::write(&path, format!("{whole}{line}\n")).unwrap();
        let Err(error) = open(&path) else { panic!("opened with {line}") };
        let number = whole.lines().count() + 1;
        assert!(matches!(error, JournalError::NotSelected(found) if found == number), "{line}: {error}");
    }
}

#[test]
fn only_the_owner_can_read_a_file_that_others_could_read() {
    let (_directory, path) = written();
    let whole = fs::read_to_string(&path).unwrap();
    for content in ["", &whole] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // Another file keeps its mode.
    fs::write(&path, "other\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(open(&path).is_err());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn a_second_process_cannot_use_the_file() {
    let (_directory, path) = written();
    let first = open(&path).unwrap();
    assert!(matches!(open(&path), Err(JournalError::Locked)));
    drop(first);
    open(&path).unwrap();
}

#[test]
fn only_a_new_file_without_a_second_line_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (journal, _) = open(&path).unwrap();
    journal.remove_unused().unwrap();
    assert!(!path.exists());

    let (mut journal, _) = open(&path).unwrap();
    journal.append(&[JournalEntry::Found { name: &name("1"), kind: None, create_time: None }]).unwrap();
    journal.remove_unused().unwrap();
    assert!(path.exists());

    fs::write(&path, "").unwrap();
    for _ in ["empty", "resumed"] {
        let (journal, _) = open(&path).unwrap();
        journal.remove_unused().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }
}

#[test]
fn a_recall_is_finished_only_if_the_last_line_is_the_summary_of_operations_that_are_done() {
    let (_directory, path) = written();
    let whole = fs::read_to_string(&path).unwrap();
    let (time, next) = (UtcTime::now(), name("next"));
    let none = RecallCounts::default();
    for (counts, exit, is_finished) in [
        (none, Exit::Ok, true),
        (RecallCounts { too_late: 1, ..none }, Exit::TooLate, true),
        (RecallCounts { failed: 1, ..none }, Exit::Failed, false),
        (RecallCounts { unknown: 1, ..none }, Exit::Failed, false),
    ] {
        let summary = Summary::new(counts, &[]);
        let line = to_json(&JournalEntry::Summary { time, summary: &summary });
        let found = to_json(&JournalEntry::Found { name: &next, kind: Some("WIPE"), create_time: None });
        fs::write(&path, format!("{whole}{line}\n")).unwrap();
        let opened = Journal::open(&path, &selection(&["WIPE"])).unwrap();
        assert_eq!(opened.finished, is_finished.then_some((time, summary)), "{line}");
        assert!(opened.is_resumed && opened.operations.len() == 4);
        assert!(line.contains(&format!("\"exit_code\":{}", exit as u8)), "{line}");
        drop(opened);
        fs::write(&path, format!("{whole}{line}\n{found}\n")).unwrap();
        assert_eq!(Journal::open(&path, &selection(&["WIPE"])).unwrap().finished, None);
    }
}

#[tokio::test]
async fn lines_are_synced_only_by_a_sync_that_began_after_them() {
    let (_directory, path) = written();
    let (mut journal, _) = open(&path).unwrap();
    assert!(journal.is_synced());
    let (first, second) = (name("5"), name("6"));
    let found = |name| JournalEntry::Found { name, kind: Some("WIPE"), create_time: None };
    journal.append(&[found(&first)]).unwrap();
    journal.start_sync();
    assert!(!journal.is_synced());
    journal.append(&[found(&second)]).unwrap();
    journal.start_sync();
    journal.end_sync().await.unwrap();
    assert!(!journal.is_synced());
    journal.flush().await.unwrap();
    assert!(journal.is_synced());
}
