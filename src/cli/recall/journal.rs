//! The journal of a recall: one JSON object a line, in the order of the events. A later run resumes from it.
//!
//! Each line is written before the recall acts on it, and reaches the disk within [`SYNC_INTERVAL`]. A lock on the file
//! keeps a second process out.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions, Permissions, TryLockError},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{
    outcome::RecallOutcome,
    report::Summary,
    selection::{Selection, UtcTime},
};
use crate::cli::{operation::to_json, output::complain};

/// The time between two syncs of the file to the disk, while lines are written.
pub(super) const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The start of the first line. The version changes with the format.
const START: &str = r#"{"event":"selection","version":1,"#;

/// The permissions of the file. The journal names devices, so other users cannot read it.
const MODE: u32 = 0o600;

/// A line of the journal, as it is written.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum JournalEntry<'a> {
    /// The first line.
    Selection { version: u32, time: UtcTime, selection: &'a Selection },
    /// An operation that the recall will cancel.
    Found {
        name: &'a str,
        #[serde(rename = "type")]
        kind: Option<&'a str>,
        create_time: Option<&'a str>,
    },
    /// The cancel is sent next. Without a later line, an earlier run ended before the response.
    CancelSent { name: &'a str, time: UtcTime },
    /// The server accepted the cancel. The operation is not known to be done yet.
    CancelAccepted { name: &'a str, time: UtcTime },
    /// The outcome of an operation. A later one replaces one that is not permanent.
    Outcome {
        name: &'a str,
        time: UtcTime,
        outcome: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    },
    /// The last line of a run that ended by itself.
    Summary { time: UtcTime, summary: &'a Summary },
}

/// A line of the journal, as it is read. serde_json cannot read a tagged enum with numbers while its feature
/// `arbitrary_precision` is on.
#[derive(Deserialize)]
struct JournalLine {
    event: String,
    version: Option<u32>,
    selection: Option<Selection>,
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    create_time: Option<String>,
    outcome: Option<String>,
    reason: Option<String>,
}

/// An operation of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JournaledOperation {
    pub(super) name: String,
    pub(super) kind: Option<String>,
    pub(super) create_time: Option<String>,
    pub(super) cancel: JournaledCancel,
    pub(super) outcome: Option<RecallOutcome>,
}

/// The cancel of an operation in an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JournaledCancel {
    NotSent,
    /// It may take effect later.
    Unanswered,
    Accepted,
}

/// The reason why a file cannot be the journal.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("another process uses the file")]
    Locked,
    #[error("line {0} is not one of a journal of recall; give another file")]
    NotAJournal(usize),
    #[error("the operation of line {0} is not one of the journal's own selection; somebody changed the file")]
    NotSelected(usize),
    #[error("the file is the journal of another selection ({0}); give another file")]
    OtherSelection(Box<Selection>),
}

/// An open journal, which this process has locked.
pub(super) struct Journal {
    file: Arc<File>,
    is_synced: bool,
}

impl Journal {
    /// Opens or creates the journal. Returns it with the selection of its first run and the operations of all earlier
    /// runs, in the order in which they were found. A last line without its end is removed.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or read, is in use, is no journal, has a selection with other arguments, or names an
    /// operation that its selection does not have.
    pub(super) fn open(
        path: &Path,
        selection: Selection,
    ) -> Result<(Self, Selection, Vec<JournaledOperation>), JournalError> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("this is not a regular file").into());
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let (earlier, operations, length) = read(&file)?;
        if let Some(earlier) = &earlier
            && !earlier.has_arguments_of(&selection)
        {
            return Err(JournalError::OtherSelection(Box::new(earlier.clone())));
        }
        make_private(&file)?;
        if length < file.metadata()?.len() {
            file.set_len(length)?;
        }
        file.seek(SeekFrom::End(0))?;
        let mut journal = Self { file: Arc::new(file), is_synced: true };
        match earlier {
            Some(earlier) => Ok((journal, earlier, operations)),
            None => {
                let (version, time) = (1, UtcTime::now());
                journal.append(&[JournalEntry::Selection { version, time, selection: &selection }])?;
                journal.file.sync_all()?;
                Ok((journal, selection, operations))
            }
        }
    }

    /// Appends lines. They survive the end of this process at once, and that of the machine after [`Self::sync`].
    ///
    /// # Errors
    ///
    /// The lines cannot be written.
    pub(super) fn append(&mut self, entries: &[JournalEntry<'_>]) -> io::Result<()> {
        let lines: String = entries.iter().map(|entry| to_json(entry) + "\n").collect();
        self.is_synced &= lines.is_empty();
        (&*self.file).write_all(lines.as_bytes())
    }

    /// Syncs the appended lines to the disk, if there are any. Other tasks run meanwhile.
    ///
    /// # Errors
    ///
    /// The disk reports an error.
    pub(super) async fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced {
            let file = Arc::clone(&self.file);
            spawn_blocking(move || file.sync_data()).await.map_err(io::Error::other)??;
            self.is_synced = true;
        }
        Ok(())
    }
}

/// A signal drops the recall between two syncs.
impl Drop for Journal {
    fn drop(&mut self) {
        if !self.is_synced
            && let Err(error) = self.file.sync_data()
        {
            complain(&format!("the end of the journal may not be on the disk: {error}"));
        }
    }
}

/// Removes the permissions of other users from an earlier file.
fn make_private(file: &File) -> io::Result<()> {
    if file.metadata()?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let only_owner = |error| io::Error::other(format!("cannot give the file the mode 0600: {error}"));
    file.set_permissions(Permissions::from_mode(MODE)).map_err(only_owner)
}

/// Reads a journal: its selection, its operations, and the length of its complete lines.
fn read(file: &File) -> Result<(Option<Selection>, Vec<JournaledOperation>, u64), JournalError> {
    let mut lines = BufReader::new(file);
    let (mut selection, mut operations, mut length) = (None, Operations::default(), 0);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let count = lines.by_ref().read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            // A torn line, or none. The file is only changed if it can be a journal.
            let is_journal = selection.is_some() || START.as_bytes().starts_with(&line);
            let is_torn_start = line.starts_with(START.as_bytes());
            if !is_journal && !is_torn_start {
                return Err(JournalError::NotAJournal(number));
            }
            break;
        }
        let entry: JournalLine =
            serde_json::from_slice(&line).map_err(|_| JournalError::NotAJournal(number))?;
        let is_start = entry.event == "selection" && entry.version == Some(1) && number == 1;
        match (entry.selection.is_some(), &selection) {
            (true, _) if is_start => selection = entry.selection,
            (false, Some(selection)) if is_foreign(&entry, selection) => {
                return Err(JournalError::NotSelected(number));
            }
            (false, Some(_)) => operations.add(entry).ok_or(JournalError::NotAJournal(number))?,
            _ => return Err(JournalError::NotAJournal(number)),
        }
        length += u64::try_from(count).unwrap_or(u64::MAX);
    }
    Ok((selection, operations.list, length))
}

/// Whether the line has found an operation that the selection does not have.
fn is_foreign(line: &JournalLine, selection: &Selection) -> bool {
    let created = line.create_time.as_ref().and_then(|time| time.parse().ok());
    let has =
        |name: &String| selection.has_device_of(name) && selection.matches(line.kind.as_deref(), created);
    line.event == "found" && line.name.as_ref().is_some_and(|name| !has(name))
}

/// The operations of the lines so far.
#[derive(Default)]
struct Operations {
    list: Vec<JournaledOperation>,
    indexes: HashMap<String, usize>,
}

impl Operations {
    /// Adds a line. `None` if it does not belong there.
    fn add(&mut self, line: JournalLine) -> Option<()> {
        let JournalLine { event, version: _, selection: _, name, kind, create_time, outcome, reason } = line;
        match event.as_str() {
            "summary" => {}
            "found" => {
                let name = name?;
                if !self.indexes.contains_key(&name) {
                    self.indexes.insert(name.clone(), self.list.len());
                    let (cancel, outcome) = (JournaledCancel::NotSent, None);
                    self.list.push(JournaledOperation { name, kind, create_time, cancel, outcome });
                }
            }
            "cancel_sent" => self.get(&name?)?.set_cancel(JournaledCancel::Unanswered),
            "cancel_accepted" => self.get(&name?)?.set_cancel(JournaledCancel::Accepted),
            "outcome" => self.get(&name?)?.outcome = Some(RecallOutcome::parse(&outcome?, reason)?),
            _ => return None,
        }
        Some(())
    }

    fn get(&mut self, name: &str) -> Option<&mut JournaledOperation> {
        self.list.get_mut(*self.indexes.get(name)?)
    }
}

impl JournaledOperation {
    /// A new cancel replaces the outcome of an earlier one.
    fn set_cancel(&mut self, cancel: JournaledCancel) {
        (self.cancel, self.outcome) = (cancel, None);
    }
}

#[cfg(test)]
mod tests;
