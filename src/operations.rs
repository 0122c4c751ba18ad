//! The five RPCs.

pub mod details;
pub mod status;
pub mod trailers;
