//! Countermand: `google.longrunning.Operations` over gRPC, carried to the Android Management API.

pub mod amapi;
pub mod budget;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod emulator;
pub mod http_client;
pub mod name;
pub mod operations;
pub mod proto;
pub mod server;
