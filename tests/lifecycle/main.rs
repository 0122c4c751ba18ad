//! The life of the process, as its operator sees it: the program itself as a child process, from its
//! configuration to its exit code.

// A helper of tests fails by panicking, as a test does.
#![allow(clippy::unwrap_used)]

#[path = "../support/tls.rs"]
#[allow(dead_code)]
mod authority;
mod caller;
#[path = "../support/files.rs"]
mod files;
mod google;
#[path = "../support/issuer.rs"]
mod issuer;
mod key;
mod process;
mod service;

mod audit;
mod check;
mod configuration;
mod credentials;
mod dev;
mod drain;
mod drain_limits;
mod explain;
mod listen;
mod policy_reload;
mod readiness;
mod rotation;
mod secrets;
mod tls;
mod two_processes;
mod unix_socket;
