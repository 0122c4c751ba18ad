//! Countermand serves `google.longrunning.Operations` over gRPC, and calls the Android Management API (AMAPI) over REST
//! with a credential that only this process holds.
//!
//! # The path of a call
//!
//! 1. [`server::listener`] accepts a connection, `server::connection` runs it, and `server::router` finds the service of
//!    each request.
//! 2. [`server::call`] takes the call from its arrival to its response: permit, message, caller ([`server::identity`]),
//!    service, audit line, response.
//! 3. [`operations`] serves the method. It parses the [`name`], and [`policy`] makes a [`policy::Permit`].
//!    `operations::flights` joins an identical upstream call, or starts one.
//! 4. [`amapi`] sends the request in one or several attempts, with a token from [`credentials`], over [`http_client`]. Each
//!    attempt waits for its turn in the [`quota`] of the Google project. The [`flight`] bounds the upstream call and is its
//!    account.
//! 5. [`operations::status`] makes the status of an error. [`audit`] writes the line of the call, and then the response is
//!    sent.
//!
//! # Other modules
//!
//! - [`app`] builds and connects the parts, supervises them ([`background`]) and drains. [`serving`] is the state that
//!   [`server::health`] and [`admin`] report.
//! - [`cli`] has the subcommands. [`config`] reads settings, which each component declares, and [`app::config`] puts them
//!   together and loads the files that they name.
//! - [`file_watch`] notices changed files. [`telemetry`] is the log, the metrics and the traces. [`admin`] has the HTTP
//!   pages for operators. [`systemd`] passes sockets and is notified.
//! - [`caller`] has the identities of callers, `project_id` the ids of Google projects. [`proto`] has the generated code. [`fingerprint`], `log_throttle`, [`trace_id`],
//!   [`loopback`] and [`pem`] are small helpers.
//! - The crate `countermand-emulator` emulates Google for `dev`, `emulate` and the tests. It imports nothing of this crate.
//!
//! `docs/ARCHITECTURE.md` has the dependencies between the modules, and the reasons for the design.

pub mod admin;
pub mod amapi;
pub mod app;
pub mod audit;
pub mod background;
pub mod caller;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod file_watch;
pub mod fingerprint;
pub mod flight;
pub mod http_client;
mod log_throttle;
pub mod loopback;
pub mod name;
pub mod operations;
pub mod pem;
pub mod policy;
mod project_id;
pub mod proto;
pub mod quota;
pub mod server;
pub mod serving;
pub mod systemd;
pub mod telemetry;
pub mod trace_id;
