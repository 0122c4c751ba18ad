//! Where lines go: a file, or standard output. Everything here blocks.

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

use super::settings::Destination;

/// The owner writes, and whoever ships logs may be of the group. The umask may take away from it.
const MODE: u32 = 0o640;

/// How long to leave a pipe alone that takes nothing now and was set not to wait.
const PAUSE: Duration = Duration::from_millis(5);

/// An open log.
pub(super) struct Sink {
    path: Option<PathBuf>,
    file: File,
    /// The length that a file has when nobody else writes to it.
    length: u64,
    /// How much of the next line is there already, since it was broken off and could not be taken back.
    torn: usize,
}

/// Not all lines could be written.
#[derive(Debug)]
pub(super) struct Failed {
    /// The bytes of the lines that were, from the first on.
    pub(super) written: usize,
    pub(super) error: io::Error,
}

impl Sink {
    /// Opens the log. A file is created when there is none, and one whose last line was broken off gets its
    /// end.
    ///
    /// # Errors
    ///
    /// It cannot be opened; the text names the file.
    pub(super) fn open(destination: &Destination) -> io::Result<Self> {
        match destination {
            // A handle of its own, past the lock and the buffer of Rust's.
            Destination::Stdout => {
                let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Ok(Self { path: None, file, length: 0, torn: 0 })
            }
            Destination::File(path) => Self::open_file(path).map_err(|error| {
                io::Error::new(error.kind(), format!("the audit log {}: {error}", path.display()))
            }),
        }
    }

    fn open_file(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
        let mut length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n")?;
            length += 1;
        }
        Ok(Self { path: Some(path.to_owned()), file, length, torn: 0 })
    }

    /// Opens the file anew when its name now means another one, and says whether it did. Standard output stays
    /// as it is.
    ///
    /// # Errors
    ///
    /// It cannot be opened; the old one stays in use.
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

    /// Writes whole lines; after a failure, those that are missing, from the first on. A line that breaks off
    /// is taken back where that can be done, else it is completed by the next call.
    ///
    /// # Errors
    ///
    /// The system refuses, for want of room for example.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Failed> {
        let mut done = self.torn;
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
        self.torn = done - written;
        self.take_back();
        result.map_err(|error| Failed { written, error })
    }

    /// Cuts off the beginning of a line at the end of a file, unless somebody else writes there too.
    fn take_back(&mut self) {
        if self.torn == 0 || self.path.is_none() {
            return;
        }
        let is_ours = self.file.metadata().is_ok_and(|metadata| metadata.len() == self.length);
        let without = self.length.saturating_sub(self.torn as u64);
        if is_ours && self.file.set_len(without).is_ok() {
            self.length = without;
            self.torn = 0;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "on the writer's thread, which has nothing else to do")]
fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests;
