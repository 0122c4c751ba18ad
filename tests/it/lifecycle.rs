//! `countermand` as a child process: configuration, listeners, reloads, logs, drain and exit codes.

pub(crate) mod caller;
pub(crate) mod google;
mod key;
pub(crate) mod service;

mod admin;
mod audit;
mod check;
mod configuration;
mod configuration_reload;
mod credentials;
#[cfg(feature = "emulator")]
mod dev;
mod drain;
mod drain_audit;
mod drain_limits;
mod explain;
mod listen;
mod log;
mod policy_reload;
mod readiness;
mod rotation;
mod secrets;
#[cfg(feature = "emulator")]
mod serve_with_emulator;
mod statusz;
mod systemd;
mod telemetry;
mod tls;
mod unix_socket;

/// Locked by tests that may bind port 50051. One process at a time can bind it.
pub(crate) static DEFAULT_PORT: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
