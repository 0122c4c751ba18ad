//! Files that are taken up when they change.

use std::{path::PathBuf, time::Duration};

use zeroize::Zeroizing;

use crate::fingerprint::fingerprint;

mod regular;

pub use regular::read;

/// How often a file is looked at. Comparing its content is safe where times and inodes are not:
/// Kubernetes swaps a symbolic link.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A file whose content is compared every few seconds.
pub struct FileWatch {
    file: PathBuf,
    seen: Option<[u8; 32]>,
}

impl FileWatch {
    /// Watches `file`, whose content now counts as seen.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        let seen = read(&file).ok().map(|content| fingerprint(&content));
        Self { file, seen }
    }

    /// Waits for the content to change, and answers the new one. A file that is gone or unreadable for a
    /// while is no change: that is what replacing it looks like. Safe to drop and call again.
    pub async fn changed(&mut self) -> Zeroizing<Vec<u8>> {
        loop {
            let file = self.file.clone();
            let read = tokio::task::spawn_blocking(move || read(&file)).await;
            if let Ok(Ok(content)) = read {
                let now = fingerprint(&content);
                let before = self.seen.replace(now);
                if before != Some(now) {
                    return content;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
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
