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

/// How long a content must stay before it counts: one that is found half-written, a policy for example whose
/// last line is still missing, must not be taken up.
const SETTLES_IN: Duration = Duration::from_secs(1);

/// For how long a file that cannot be read is only being replaced.
const REPLACING: Duration = Duration::from_secs(4);

/// A file whose content is compared every few seconds. One that can no longer be read is reported here, once
/// until it can: its user only hears of contents.
#[derive(Clone)]
pub struct FileWatch {
    file: PathBuf,
    seen: [u8; 32],
    settling: Option<Settling>,
    unreadable: Option<Unreadable>,
}

/// Another content, and when it was first found.
#[derive(Clone)]
struct Settling {
    content: [u8; 32],
    since: Instant,
}

/// Since when, and whether it has been told.
#[derive(Clone)]
struct Unreadable {
    since: Instant,
    told: bool,
}

impl FileWatch {
    /// Watches `file` from the content on that is answered.
    ///
    /// # Errors
    ///
    /// It cannot be read, as [`read`] says.
    pub fn open(file: &Path) -> io::Result<(Self, Zeroizing<Vec<u8>>)> {
        let content = read(file)?;
        let seen = fingerprint(&content);
        Ok((Self { file: file.to_owned(), seen, settling: None, unreadable: None }, content))
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
                    if self.has_settled(fingerprint(&content)) {
                        return content;
                    }
                }
                Err(error) => self.was_unreadable(&error),
            }
            let pause = if self.settling.is_some() { SETTLES_IN } else { LOOK_EVERY };
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether what was found is another content than before, and has been for long enough.
    fn has_settled(&mut self, found: [u8; 32]) -> bool {
        if self.seen == found {
            self.settling = None;
            return false;
        }
        let now = Instant::now();
        let settling = self.settling.take().filter(|settling| settling.content == found);
        let settling = settling.unwrap_or(Settling { content: found, since: now });
        let is_settled = now.duration_since(settling.since) >= SETTLES_IN;
        if is_settled {
            self.seen = found;
        } else {
            self.settling = Some(settling);
        }
        is_settled
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
