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
