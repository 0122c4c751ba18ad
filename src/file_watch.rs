//! Watches files for changes of their content.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use crate::fingerprint::fingerprint;

mod read_file;

pub use read_file::read;

/// The interval between two reads. The content is compared, because times and inodes are unreliable: Kubernetes
/// replaces a symbolic link.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A new content counts as complete when it has not changed for this time. A file that is read while it is written may
/// lack its last lines.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// A file that cannot be read is logged after this time. A replacement of the file is shorter.
const UNREADABLE_GRACE: Duration = Duration::from_secs(4);

/// A file whose content is compared every few seconds. A file that is no longer readable is logged here, because
/// [`FileWatch::changed`] reports contents only.
#[derive(Debug)]
pub struct FileWatch {
    file: PathBuf,
    /// The fingerprint of the content that was returned last.
    current: [u8; 32],
    settling: Option<SettlingContent>,
    unreadable: Option<UnreadablePeriod>,
}

/// A new content that may be incomplete.
#[derive(Debug)]
struct SettlingContent {
    fingerprint: [u8; 32],
    since: Instant,
}

/// A time in which the file cannot be read.
#[derive(Debug)]
struct UnreadablePeriod {
    since: Instant,
    is_logged: bool,
}

impl FileWatch {
    /// Reads `file`, and watches it for changes of the content that is returned.
    ///
    /// # Errors
    ///
    /// See [`read`].
    pub fn open(file: &Path) -> io::Result<(Self, Vec<u8>)> {
        let content = read(file)?;
        let current = fingerprint(&content);
        Ok((Self { file: file.to_owned(), current, settling: None, unreadable: None }, content))
    }

    /// Waits until the content changes, and returns the new content. A missing or unreadable file is not a change.
    /// Cancel safe.
    pub async fn changed(&mut self) -> Vec<u8> {
        loop {
            let file = self.file.clone();
            // The join fails only when the runtime shuts down.
            let read = tokio::task::spawn_blocking(move || read(&file)).await;
            match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(content) => {
                    self.was_read();
                    if self.has_settled(fingerprint(&content)) {
                        return content;
                    }
                }
                Err(error) => self.was_unreadable(&error),
            }
            let pause = if self.settling.is_some() { SETTLE_TIME } else { POLL_INTERVAL };
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether the content with the fingerprint `found` is new and has not changed for [`SETTLE_TIME`].
    fn has_settled(&mut self, found: [u8; 32]) -> bool {
        if self.current == found {
            self.settling = None;
            return false;
        }
        let now = Instant::now();
        let settling = self.settling.take().filter(|settling| settling.fingerprint == found);
        let settling = settling.unwrap_or(SettlingContent { fingerprint: found, since: now });
        let is_settled = now.duration_since(settling.since) >= SETTLE_TIME;
        if is_settled {
            self.current = found;
        } else {
            self.settling = Some(settling);
        }
        is_settled
    }

    fn was_read(&mut self) {
        if self.unreadable.take().is_some_and(|unreadable| unreadable.is_logged) {
            tracing::info!(file = %self.file.display(), "read a watched file again");
        }
    }

    fn was_unreadable(&mut self, error: &io::Error) {
        let now = Instant::now();
        let unreadable = self.unreadable.get_or_insert(UnreadablePeriod { since: now, is_logged: false });
        if !unreadable.is_logged && now.duration_since(unreadable.since) >= UNREADABLE_GRACE {
            unreadable.is_logged = true;
            tracing::warn!(
                file = %self.file.display(), %error,
                "failed to read a watched file; its last content stays active"
            );
        }
    }
}

/// Waits until the content of an optional file changes. Never returns if there is no file.
pub async fn changed_if_any(file: &mut Option<FileWatch>) -> Vec<u8> {
    match file {
        Some(file) => file.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
