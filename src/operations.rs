//! The five RPCs.

pub mod code;
pub mod details;
pub mod status;
pub mod structs;
pub mod trailers;
