//! Countermand: `google.longrunning.Operations` over gRPC, carried to the Android Management API.

pub mod admin;
pub mod amapi;
pub mod app;
pub mod budget;
pub mod caller;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod emulator;
pub mod http_client;
pub mod name;
pub mod operations;
pub mod policy;
pub mod proto;
pub mod server;
pub mod telemetry;
