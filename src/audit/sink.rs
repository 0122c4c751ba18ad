//! The destination of lines: a file, or standard output. All functions block.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use super::settings::{Destination, can_hold_lines};

/// The mode of a new file: the owner writes, and a log shipper reads as a member of the group. The umask may
/// restrict it.
const MODE: u32 = 0o640;

/// The time between attempts to write to a full non-blocking pipe.
const FULL_PIPE_INTERVAL: Duration = Duration::from_millis(5);

/// An open log.
pub(super) struct Sink {
    path: Option<PathBuf>,
    file: File,
    /// The length of the file if no other process writes to it.
    length: u64,
    /// The number of bytes of an incomplete line that a failed write left in the log and that could not be removed.
    incomplete: usize,
}

/// A write failed before all lines were written.
#[derive(Debug)]
pub(super) struct WriteError {
    /// The number of bytes of the complete lines that were written.
    pub(super) written: usize,
    pub(super) error: io::Error,
}

impl Sink {
    /// Opens the log. Creates a missing file, and terminates an incomplete last line.
    ///
    /// # Errors
    ///
    /// The file cannot be opened; the text names it.
    pub(super) fn open(destination: &Destination) -> io::Result<Self> {
        match destination {
            // A second descriptor bypasses the lock and the buffer of the standard library.
            Destination::Stdout => {
                let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Ok(Self { path: None, file, length: 0, incomplete: 0 })
            }
            Destination::File(path) => Self::open_file(path).map_err(|error| {
                io::Error::new(error.kind(), format!("the audit log {}: {error}", path.display()))
            }),
        }
    }

    fn open_file(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
        let metadata = file.metadata()?;
        if !can_hold_lines(&metadata) {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut length = metadata.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n")?;
            length += 1;
        }
        Ok(Self { path: Some(path.to_owned()), file, length, incomplete: 0 })
    }

    /// Reopens the file if its path now refers to another file, and returns whether it did. Standard output is
    /// never reopened.
    ///
    /// # Errors
    ///
    /// The file cannot be opened. The old file stays open.
    pub(super) fn reopen(&mut self) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        if let (Ok(named), Ok(open)) = (std::fs::metadata(path), identity(&self.file))
            && (named.dev(), named.ino()) == open
        {
            return Ok(false);
        }
        *self = Self::open(&Destination::File(path.clone()))?;
        Ok(true)
    }

    /// Writes complete lines. After a failure, the caller must pass the missing lines again, from the first one. An
    /// incomplete line is removed if possible, otherwise the next call completes it.
    ///
    /// # Errors
    ///
    /// The write fails, for example because the disk is full.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        let mut done = self.incomplete;
        let result = loop {
            if done >= lines.len() {
                break Ok(());
            }
            match self.file.write(&lines[done..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(more) => {
                    done += more;
                    self.length += more as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => pause(),
                Err(error) => break Err(error),
            }
        };
        let done = done.min(lines.len());
        let written = lines[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.incomplete = done - written;
        self.remove_incomplete_line();
        result.map_err(|error| WriteError { written, error })
    }

    /// Removes an incomplete line at the end of the file, unless another process also writes to the file.
    fn remove_incomplete_line(&mut self) {
        if self.incomplete == 0 || self.path.is_none() {
            return;
        }
        let is_ours = self.file.metadata().is_ok_and(|metadata| metadata.len() == self.length);
        let complete_length = self.length.saturating_sub(self.incomplete as u64);
        if is_ours && self.file.set_len(complete_length).is_ok() {
            self.length = complete_length;
            self.incomplete = 0;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "runs on the writer thread, which has no other work")]
fn pause() {
    std::thread::sleep(FULL_PIPE_INTERVAL);
}

#[cfg(test)]
mod tests;
