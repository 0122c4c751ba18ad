//! Countermand: `google.longrunning.Operations` over gRPC, carried to the Android Management API.

pub mod amapi;
pub mod cli;
pub mod config;
pub mod emulator;
pub mod name;
pub mod operations;
pub mod proto;
pub mod server;
