//! `[audit]`: where the audit log goes, and what happens when it cannot be written.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileTypeExt,
    path::Path,
};

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    files,
    sources::Sources,
    table::Section,
};
use crate::{
    audit::settings::{Audit, Destination, OnFailure},
    server::settings::directory_of,
};

/// The value of `file` that is not a file.
const STDOUT: &str = "stdout";

impl Audit {
    pub(super) fn read(environment: &mut Environment, file: &mut Section<'_>, faults: &mut Faults) -> Self {
        let destination = environment
            .path("COUNTERMAND_AUDIT_FILE")
            .or(file.path_unless(|text| text == STDOUT, "file", faults))
            .and_then(|given| given.parse(faults, destination))
            .unwrap_or(Destination::Stdout);
        let on_failure = Sources { environment, file, faults }.read(
            "COUNTERMAND_AUDIT_ON_FAILURE",
            "on_failure",
            on_failure,
            OnFailure::default(),
        );
        Self { destination, on_failure }
    }
}

fn destination(path: &Path) -> Result<Destination, Wrong> {
    if path == Path::new(STDOUT) {
        return Ok(Destination::Stdout);
    }
    files::name(&path.to_string_lossy())?;
    let wrong = |what: String| {
        let remedy = r#"name a file that this user may write, in a directory that exists, or give "stdout""#;
        Wrong::new(format!("{path:?} {what}"), remedy)
    };
    match fs::metadata(path) {
        Ok(metadata) if !(metadata.is_file() || metadata.file_type().is_char_device()) => {
            return Err(wrong("is not a regular file".to_owned()));
        }
        Ok(_) => OpenOptions::new().read(true).append(true).open(path).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => can_be_made(path),
        Err(error) => Err(error),
    }
    .map_err(|error| wrong(format!("cannot be written: {error}")))?;
    Ok(Destination::File(path.to_owned()))
}

/// Whether a file can be made where `path` says, tried by one without a name.
fn can_be_made(path: &Path) -> io::Result<()> {
    if path.file_name().is_none() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    tempfile::tempfile_in(directory_of(path)).map(drop)
}

fn on_failure(text: &str) -> Result<OnFailure, Wrong> {
    match text {
        "fail" => Ok(OnFailure::Fail),
        "continue" => Ok(OnFailure::Continue),
        _ => Err(Wrong::new(format!("{text:?} is neither fail nor continue"), "give fail or continue")),
    }
}
