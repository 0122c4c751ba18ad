//! Countermand: `google.longrunning.Operations` over gRPC, in front of the Android Management API (AMAPI)
//! over REST, with a credential that only this process holds.
//!
//! # The path of a call
//!
//! 1. A socket ([`server::listener`]) accepts a connection, `server::connection` drives it, and `server::router` finds
//!    the service of each request.
//! 2. [`server::call`] takes the call from its arrival to its response: permit, message, caller
//!    ([`server::identity`]), service, audit line, response.
//! 3. [`operations`] serves the method: the [`name`] is parsed, [`policy`] makes a [`policy::Permit`], and
//!    `operations::flights` joins an identical upstream call or starts one.
//! 4. [`amapi`] sends the request: a token from [`credentials`], one attempt after another, over [`http_client`]. The
//!    [`flight`] bounds the upstream call and keeps its account.
//! 5. [`operations::status`] makes the status of an error. [`audit`] writes the line of the call, and then the response
//!    leaves.
//!
//! # Around it
//!
//! [`app`] builds and connects the parts, supervises them ([`background`]) and drains. [`cli`] and [`config`] read the
//! command line and the settings. [`admin`] and [`telemetry`] serve the operator. The crate `countermand-emulator`
//! emulates Google for `dev`, `emulate` and the tests, and imports nothing of this one.
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
pub mod loopback;
pub mod name;
pub mod operations;
pub mod pem;
pub mod policy;
pub mod proto;
pub mod server;
pub mod serving;
pub mod telemetry;
