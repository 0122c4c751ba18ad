//! The operator's HTTP pages: `/livez`, `/readyz` and `/metrics`. The admin port also has `/loglevel`.
//!
//! The admin port serves them with the causes of errors, so it is on loopback. The telemetry listener serves them
//! without causes, so that it may be reached from other machines. Both are an [`HttpPort`] with [`Pages`].

mod http_port;
mod log_level;
mod metrics_page;
mod pages;
mod readyz;
pub mod settings;

pub use http_port::HttpPort;
pub use pages::{Detail, Pages};
