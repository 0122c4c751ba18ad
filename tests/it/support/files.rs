//! Files that a service reads while it runs.

use std::path::Path;

/// Replaces a file in one step, as a careful writer does.
pub(crate) fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, file).unwrap();
}
