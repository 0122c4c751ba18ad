//! The operator's HTTP pages: `/livez`, `/readyz`, `/metrics`, and on the admin port also `/statusz`, `/loglevel` and
//! `/quitquitquit`.
//!
//! The admin port serves them with the causes of errors, so it is on loopback. The telemetry listener serves the first
//! three without causes, so that it may be reached from other machines. Both are an [`HttpPort`] with [`Pages`].
//!
//! [`access`] protects the admin port from web pages in an operator's browser.

mod access;
mod html;
mod http_port;
mod log_level;
mod metrics_page;
mod pages;
mod readyz;
pub mod settings;
mod statusz;

pub use http_port::HttpPort;
pub use pages::{Operator, Pages};
