//! The integration tests: the program and the library over real sockets. They are one target, so that what they share
//! is compiled once.

// A helper of a test fails by panicking, as a test does.
#![allow(clippy::unwrap_used)]

mod access;
mod client_commands;
mod credentials;
mod dependencies;
mod emulator;
#[cfg(feature = "emulator")]
mod generated_documents;
mod lifecycle;
mod support;
mod wire;
