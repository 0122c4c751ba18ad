//! The journal of a recall: one JSON object a line, in the order of the events. A later run resumes from it.
//!
//! Each line is written before the recall acts on it, and reaches the disk within [`SYNC_INTERVAL`]. A lock on the file
//! keeps a second process out.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    future,
    io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};

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
    time: Option<UtcTime>,
    selection: Option<Selection>,
    summary: Option<Summary>,
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
    #[error("the file is the journal of another selection (operations {0}); give another file")]
    OtherSelection(Box<Selection>),
}

/// The journal of a recall, and the content of its earlier runs.
pub(super) struct OpenedJournal {
    pub(super) journal: Journal,
    /// The start of the first run.
    pub(super) started: UtcTime,
    /// That of the first run, with its times.
    pub(super) selection: Selection,
    /// In the order in which they were found.
    pub(super) operations: Vec<JournaledOperation>,
    /// Whether an earlier run made the file.
    pub(super) is_resumed: bool,
    /// The end and the summary of the latest run, if it left nothing to do: all operations are done.
    pub(super) finished: Option<(UtcTime, Summary)>,
}

/// An open journal, which this process has locked.
pub(super) struct Journal {
    path: PathBuf,
    file: Arc<File>,
    /// Whether this process created the file.
    is_created: bool,
    /// The number of writes.
    written: u64,
    /// The number of writes that are on the disk.
    synced: u64,
    /// Returns the number of writes before its start.
    sync: Option<JoinHandle<io::Result<u64>>>,
}

impl Journal {
    /// Opens or creates the journal. A last line without its end is removed.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or read, is in use, is no journal, has a selection with other arguments, or names an
    /// operation that its selection does not have.
    pub(super) fn open(path: &Path, selection: &Selection) -> Result<OpenedJournal, JournalError> {
        let (mut file, is_created) = open_or_create(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("this is not a regular file").into());
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // The process that created it has just removed it.
        if file.metadata()?.nlink() == 0 {
            return Err(JournalError::Locked);
        }
        let EarlierRuns { start, operations, finished, length } = read(&file)?;
        if let Some((_, earlier)) = &start
            && !earlier.has_arguments_of(selection)
        {
            return Err(JournalError::OtherSelection(Box::new(earlier.clone())));
        }
        make_private(&file)?;
        if length < file.metadata()?.len() {
            file.set_len(length)?;
        }
        file.seek(SeekFrom::End(0))?;
        let (path, file) = (path.to_owned(), Arc::new(file));
        let mut journal = Self { path, file, is_created, written: 0, synced: 0, sync: None };
        let is_resumed = start.is_some();
        let (started, selection) = match start {
            Some(start) => start,
            None => {
                let (version, time) = (1, UtcTime::now());
                journal.append(&[JournalEntry::Selection { version, time, selection }])?;
                journal.file.sync_all()?;
                journal.synced = journal.written;
                (time, selection.clone())
            }
        };
        let operations = operations.list;
        Ok(OpenedJournal { journal, started, selection, operations, is_resumed, finished })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file if this process created it and it has only its first line.
    ///
    /// # Errors
    ///
    /// The file cannot be removed.
    pub(super) fn remove_unused(self) -> io::Result<()> {
        if self.is_created && self.written == 1 { fs::remove_file(&self.path) } else { Ok(()) }
    }

    /// Appends lines. They survive the end of this process at once, and that of the machine after a sync.
    ///
    /// # Errors
    ///
    /// The lines cannot be written.
    pub(super) fn append(&mut self, entries: &[JournalEntry<'_>]) -> io::Result<()> {
        let lines: String = entries.iter().map(|entry| to_json(entry) + "\n").collect();
        self.written += u64::from(!lines.is_empty());
        (&*self.file).write_all(lines.as_bytes())
    }

    /// Whether all lines are on the disk.
    fn is_synced(&self) -> bool {
        self.synced == self.written
    }

    /// Starts a sync of the lines to the disk, unless they are there or a sync is in progress.
    pub(super) fn start_sync(&mut self) {
        if self.sync.is_none() && !self.is_synced() {
            let (file, written) = (Arc::clone(&self.file), self.written);
            self.sync = Some(spawn_blocking(move || file.sync_data().map(|()| written)));
        }
    }

    /// Waits for the end of the sync; for ever if there is none. It can be dropped at any time, and called again.
    ///
    /// # Errors
    ///
    /// The disk reports an error.
    pub(super) async fn end_sync(&mut self) -> io::Result<()> {
        let Some(sync) = &mut self.sync else { return future::pending().await };
        let synced = sync.await;
        self.sync = None;
        self.synced = synced.map_err(io::Error::other)??;
        Ok(())
    }

    /// Syncs all lines to the disk.
    ///
    /// # Errors
    ///
    /// The disk reports an error.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while !self.is_synced() {
            self.start_sync();
            self.end_sync().await?;
        }
        Ok(())
    }
}

/// A signal drops the recall between two syncs, or during one.
impl Drop for Journal {
    fn drop(&mut self) {
        if !self.is_synced()
            && let Err(error) = self.file.sync_data()
        {
            complain(&format!("the end of the journal may not be on the disk: {error}"));
        }
    }
}

/// Opens the file. Returns whether it is a new one.
fn open_or_create(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(MODE);
    match options.clone().create_new(true).open(path) {
        Ok(file) => Ok((file, true)),
        // `create`, because another process may remove it meanwhile, and for a link to a file that does not exist.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            options.create(true).open(path).map(|file| (file, false))
        }
        Err(error) => Err(error),
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

/// The content of a journal.
#[derive(Default)]
struct EarlierRuns {
    /// The time and the selection of the first line.
    start: Option<(UtcTime, Selection)>,
    operations: Operations,
    /// The last line, if it is the summary of a run after which all operations are done.
    finished: Option<(UtcTime, Summary)>,
    /// The length of the complete lines, in bytes.
    length: u64,
}

/// Reads a journal.
fn read(file: &File) -> Result<EarlierRuns, JournalError> {
    let mut lines = BufReader::new(file);
    let mut runs = EarlierRuns::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let count = lines.by_ref().read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            // A torn line, or none. The file is only changed if it can be a journal.
            let is_journal = runs.start.is_some() || START.as_bytes().starts_with(&line);
            let is_torn_start = line.starts_with(START.as_bytes());
            if !is_journal && !is_torn_start {
                return Err(JournalError::NotAJournal(number));
            }
            break;
        }
        let mut entry: JournalLine =
            serde_json::from_slice(&line).map_err(|_| JournalError::NotAJournal(number))?;
        let is_start = entry.event == "selection" && entry.version == Some(1) && number == 1;
        runs.finished = entry.time.zip(entry.summary.take()).filter(|(_, summary)| summary.is_finished());
        match (entry.time.zip(entry.selection.take()), &runs.start) {
            (Some(start), _) if is_start => runs.start = Some(start),
            (None, Some((_, selection))) if is_foreign(&entry, selection) => {
                return Err(JournalError::NotSelected(number));
            }
            (None, Some(_)) => runs.operations.add(entry).ok_or(JournalError::NotAJournal(number))?,
            _ => return Err(JournalError::NotAJournal(number)),
        }
        runs.length += u64::try_from(count).unwrap_or(u64::MAX);
    }
    Ok(runs)
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
        let JournalLine { event, name, kind, create_time, outcome, reason, .. } = line;
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
