//! The files that a configuration names: there, readable, and of use.

use std::{fs, path::Path};

use rustls::RootCertStore;

use super::{
    discreet::{IN_BASE64, PEM},
    fault::Wrong,
};
use crate::pem;

/// What to do about a file that cannot be read.
pub(crate) const READABLE_FILE: &str = "name a file that exists and that this user may read";

/// What to do about a file of certificates that cannot be trusted.
pub(crate) const CA_CERTIFICATES: &str =
    "name a PEM file with one or more CA certificates (BEGIN CERTIFICATE)";

/// The most that Linux takes for a path, and for each part of it (`PATH_MAX`, `NAME_MAX`).
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;

/// Checks that `path` is a regular file and can be read. A pipe is refused: every file named is read
/// again later, and a pipe can be read only once.
pub(crate) fn readable(path: &Path) -> Result<(), Wrong> {
    name(&path.to_string_lossy())?;
    let cannot = |error| Wrong::new(format!("cannot read {path:?}: {error}"), READABLE_FILE);
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(Wrong::new(format!("{path:?} is not a regular file"), READABLE_FILE));
    }
    fs::File::open(path).map(drop).map_err(cannot)
}

/// Refuses a text that is no name of a file but what one holds. It is to be asked of the text as it was
/// given: what a folder has been put before begins like any other path.
pub(super) fn name(text: &str) -> Result<(), Wrong> {
    if looks_like_content(text) {
        let problem = "this is the content of a file (not shown here)";
        return Err(Wrong::new(problem, "give the name of the file"));
    }
    Ok(())
}

/// Whether someone gave a key or a certificate in place of its file's name; it must not be printed.
fn looks_like_content(text: &str) -> bool {
    let begin = text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '\'' | '\u{feff}'));
    begin.starts_with(['{', '['])
        || IN_BASE64.iter().any(|known| begin.starts_with(known))
        || text.contains(PEM)
        || text.contains(['"', '\n', '\r'])
        || text.len() > LONGEST_PATH
        || text.split('/').any(|part| part.len() > LONGEST_NAME)
}

/// Checks that `path` is a PEM file of at least one certificate, and each one fit to be trusted.
pub(crate) fn certificates(path: &Path) -> Result<(), Wrong> {
    readable(path)?;
    let wrong = |what: String| Wrong::new(format!("{path:?} {what}"), CA_CERTIFICATES);
    let content = fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(&content).map_err(|error| wrong(error.to_string()))? {
        roots
            .add(certificate)
            .map_err(|error| wrong(format!("holds a certificate that cannot be used: {error}")))?;
    }
    Ok(())
}
