//! Countermand: `google.longrunning.Operations` over gRPC, carried to the Android Management API (AMAPI)
//! over REST, with a credential that only it holds.
//!
//! # A call's journey
//!
//! 1. It enters by a socket ([`server::listener`]) and a connection of HTTP/2 (`server::connection`);
//!    `server::routes` finds its service.
//! 2. The layers (`server::layers`) begin its record, give it a place among the calls in flight, and say who
//!    calls ([`server::identity`]) and until when.
//! 3. [`operations`] takes it from top to bottom: the [`name`] is parsed, the [`policy`] makes a
//!    [`policy::Permit`] of it, and [`operations::share`] lets it join an identical call in flight.
//! 4. [`amapi`] carries it to Google, for as long as its [`budget`] lasts: a token from [`credentials`],
//!    one attempt after another, over [`http_client`].
//! 5. What Google answered becomes the answer: for an error, [`operations::status`] decides what the
//!    caller is told. It goes out when [`audit`] has written its line.
//!
//! # Around it
//!
//! [`app`] builds and connects all this, supervises and drains it; [`cli`] and [`config`] say what it is
//! told; [`admin`] and [`telemetry`] are the operator's view. [`emulator`] stands in for Google in
//! development and in tests, and shares nothing with the rest.

pub mod admin;
pub mod amapi;
pub mod app;
pub mod audit;
pub mod background;
pub mod caller;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod emulator;
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
