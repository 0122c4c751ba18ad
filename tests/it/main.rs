//! The integration tests: the program and the library over real sockets. All tests are one target, so that the shared
//! helpers are compiled once.

// Test helpers fail by panicking, as tests do.
#![allow(clippy::unwrap_used)]

mod access;
mod client_commands;
mod credentials;
mod dependencies;
mod emulator;
mod field;
#[cfg(feature = "emulator")]
mod generated_documents;
mod lifecycle;
mod quota;
mod recall;
mod support;
mod telemetry;
mod wire;
