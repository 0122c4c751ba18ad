//! Faults that public bug reports of neighbouring systems and libraries uncovered. Each case names its report: a project
//! and an issue number. A new report is one more case.

mod authority;
mod libraries;
mod lost_connections;
mod operator_errors;
mod process;
mod proxy;
mod redaction;
mod reflection;
mod responses;
mod retries;
