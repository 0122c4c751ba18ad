//! Where the audit log goes.

use super::finding::Finding;
use crate::audit::settings::{Audit, Destination, OnFailure};

/// That it can be written was found out with the configuration, without a line that nobody asked for.
pub(super) fn finding(audit: &Audit) -> Option<Finding> {
    let Audit { file: destination, on_failure } = audit;
    let Destination::File(file) = destination else { return None };
    let told = format!("{} can be written", file.display());
    Some(match on_failure {
        OnFailure::Fail => Finding::ok("audit.file", told),
        OnFailure::Continue => Finding::warning(
            "audit.file",
            format!("{told}; when it cannot be, calls go unrecorded"),
            "leave audit.on_failure out where every call must be on record",
        ),
    })
}
