//! Files that the service reloads.

use std::path::Path;

/// Replaces a file atomically.
pub(crate) fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, file).unwrap();
}
