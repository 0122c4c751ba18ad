//! Files for one pair of eyes.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::Value;
use zeroize::Zeroizing;

use super::key::random_hex;

/// A Google credential file, as JSON. It holds secrets: it prints as `[redacted]`, and its memory is
/// cleared when it is dropped.
#[derive(Clone)]
pub struct Credentials(Zeroizing<String>);

impl Credentials {
    pub(super) fn new(file: &Value) -> Self {
        Self(Zeroizing::new(format!("{file:#}\n")))
    }

    /// The JSON, secrets included.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Writes the JSON to a file that its owner alone can read (mode 0600), all at once: who looks
    /// at `path` finds what was there before or the whole new file. Blocks while it writes.
    ///
    /// # Errors
    /// When the directory of `path` cannot be written to.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write(path, &self.0)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

/// Writes `text` as [`Credentials::write`] says.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file");
    let mut name = path.file_name().ok_or_else(no_file)?.to_owned();
    name.push(format!(".{}", random_hex()?));
    let new = path.with_file_name(name);
    let written = write_new(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The first error is the one to report; what is left over may not even exist.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_file_is_whole_and_its_owners_alone() {
        let credentials = Credentials::new(&json!({ "type": "service_account" }));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials.json");
        fs::write(&path, "an older file, and readable by all").unwrap();
        credentials.write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), credentials.expose());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_and_leaves_nothing() {
        let credentials = Credentials::new(&json!({}));
        let directory = tempfile::tempdir().unwrap();
        assert!(credentials.write(&directory.path().join("none/credentials.json")).is_err());
        assert!(credentials.write(Path::new("/")).is_err());
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(credentials.write(&taken).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn credentials_do_not_print() {
        let credentials = Credentials::new(&json!({ "private_key": "s3cret" }));
        assert_eq!(format!("{credentials:?}"), "Credentials([redacted])");
    }
}
