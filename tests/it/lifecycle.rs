//! The life of the process, as its operator sees it: the program itself as a child process, from its
//! configuration to its exit code.

mod caller;
mod google;
mod key;
mod service;

mod admin;
mod audit;
mod check;
mod configuration;
mod credentials;
#[cfg(feature = "emulator")]
mod dev;
mod drain;
mod drain_limits;
mod explain;
mod listen;
mod policy_reload;
mod readiness;
mod rotation;
mod secrets;
#[cfg(feature = "emulator")]
mod serve_with_emulator;
mod tls;
mod unix_socket;

/// Locked by the tests that may bind port 50051, which only one of them can.
static DEFAULT_PORT: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
