//! Files that are taken up when they change.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::fingerprint::fingerprint;

mod regular;

pub use regular::read;

/// How often a file is looked at. Comparing its content is safe where times and inodes are not:
/// Kubernetes swaps a symbolic link.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// For how long a file that cannot be read is only being replaced.
const REPLACING: Duration = Duration::from_secs(4);

/// A file whose content is compared every few seconds. One that can no longer be read is reported here, once
/// until it can: its user only hears of contents.
pub struct FileWatch {
    file: PathBuf,
    seen: Option<[u8; 32]>,
    unreadable: Option<Unreadable>,
}

/// Since when, and whether it has been told.
struct Unreadable {
    since: Instant,
    told: bool,
}

impl FileWatch {
    /// Watches `file`, whose content now counts as seen. Whoever reads it by itself does so after this, so
    /// that no change goes unseen in between.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        let seen = read(&file).ok().map(|content| fingerprint(&content));
        Self { file, seen, unreadable: None }
    }

    /// Watches `file` from the content on that is answered.
    ///
    /// # Errors
    ///
    /// It cannot be read, as [`read`] says.
    pub fn open(file: &Path) -> io::Result<(Self, Zeroizing<Vec<u8>>)> {
        let content = read(file)?;
        let seen = Some(fingerprint(&content));
        Ok((Self { file: file.to_owned(), seen, unreadable: None }, content))
    }

    /// Waits for the content to change, and answers the new one. A file that is gone or unreadable is no
    /// change. Safe to drop and call again.
    pub async fn changed(&mut self) -> Zeroizing<Vec<u8>> {
        loop {
            let file = self.file.clone();
            // It ends in error only when the runtime does.
            let read = tokio::task::spawn_blocking(move || read(&file)).await;
            match read.unwrap_or_else(|ending| Err(io::Error::other(ending))) {
                Ok(content) => {
                    self.was_read();
                    let now = fingerprint(&content);
                    let before = self.seen.replace(now);
                    if before != Some(now) {
                        return content;
                    }
                }
                Err(error) => self.was_unreadable(&error),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn was_read(&mut self) {
        if self.unreadable.take().is_some_and(|unreadable| unreadable.told) {
            tracing::info!(file = %self.file.display(), "a file can be read again");
        }
    }

    /// For a moment that is what replacing a file looks like.
    fn was_unreadable(&mut self, error: &io::Error) {
        let now = Instant::now();
        let unreadable = self.unreadable.get_or_insert(Unreadable { since: now, told: false });
        if !unreadable.told && now.duration_since(unreadable.since) >= REPLACING {
            unreadable.told = true;
            tracing::warn!(
                file = %self.file.display(), %error,
                "a file cannot be read any more: what it held stays in use"
            );
        }
    }
}

/// Waits for the content of a file to change that there may be: for ever, when there is none.
pub async fn changed_if_any(file: &mut Option<FileWatch>) -> Zeroizing<Vec<u8>> {
    match file {
        Some(file) => file.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
