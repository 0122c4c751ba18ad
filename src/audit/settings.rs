//! The settings of the audit log.

use std::{
    fs::{self, Metadata, OpenOptions},
    io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use super::closed_stream::{is_path_closed, is_stdout_closed};
use crate::config::{ConfigErrors, Invalid, Parsed, Section, Words, directory_of, settings};

settings! {
    /// `[audit]`: the destination of the audit log, and the effect of a failed write.
    pub struct Audit in "audit" {
        /// The destination of the lines: `stdout`, which must be open, or a file, which is appended to or created.
        /// SIGHUP reopens the file.
        file: Destination = "stdout", Parsed { form: "\"stdout\" or a path", parse: destination },
            env "COUNTERMAND_AUDIT_FILE";
        /// The effect on calls when the audit log cannot be written: `fail` refuses calls, and `continue` serves
        /// calls without a record.
        on_failure: OnFailure = "fail", Words(&[("fail", OnFailure::Fail), ("continue", OnFailure::Continue)]),
            env "COUNTERMAND_AUDIT_ON_FAILURE";
    }
}

/// The destination of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file, which is appended to or created.
    File(PathBuf),
}

/// The effect on calls when the audit log cannot be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Calls fail.
    #[default]
    Fail,
    /// Calls are served without a record.
    Continue,
}

fn destination(text: &str, directory: &Path) -> Result<Destination, Invalid> {
    Ok(match text {
        "stdout" => Destination::Stdout,
        path => Destination::File(directory.join(path)),
    })
}

impl Audit {
    /// Adds an error if the file is not writable. Blocks.
    pub(crate) fn check(&self, section: &Section, errors: &mut ConfigErrors) {
        let Destination::File(path) = &self.file else { return };
        if let Err(problem) = writable(path) {
            let hint =
                r#"name a file that this user may write, in a directory that exists, or give "stdout""#;
            section.invalid("file", Invalid::new(problem, hint), errors);
        }
    }

    /// Checks that the lines reach the destination if it is a standard stream of this process. `check` does not, because
    /// the streams of `serve` are others.
    ///
    /// # Errors
    ///
    /// The stream was closed when the process started, so all lines would be lost. The text names the setting.
    pub fn check_stream(&self) -> Result<(), ClosedStream> {
        let is_closed = match &self.file {
            Destination::Stdout => is_stdout_closed(),
            Destination::File(path) => is_path_closed(path),
        };
        if is_closed { Err(ClosedStream) } else { Ok(()) }
    }
}

/// The destination of the audit log is a standard stream that was closed when the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "audit.file: the audit log goes to a standard stream that is closed, so its lines would be lost; open the stream, or \
     name a file (\"/dev/null\" discards the lines)"
)]
pub struct ClosedStream;

fn writable(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(metadata) if !can_hold_lines(&metadata) => return Err("it is not a regular file".to_owned()),
        Ok(_) => OpenOptions::new().read(true).append(true).open(path).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => can_be_created(path),
        Err(error) => Err(error),
    }
    .map_err(|error| format!("the file cannot be written: {error}"))
}

/// Whether a file can be created at `path`. Creates and removes an unnamed file in its directory.
fn can_be_created(path: &Path) -> io::Result<()> {
    if path.file_name().is_none() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    tempfile::tempfile_in(directory_of(path)).map(drop)
}

/// Whether lines can be appended: to a regular file, or to a device such as a terminal. Lines in a pipe do not outlive
/// the process.
pub(super) fn can_hold_lines(metadata: &Metadata) -> bool {
    metadata.is_file() || metadata.file_type().is_char_device()
}
