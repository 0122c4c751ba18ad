//! What serves gRPC.

pub mod health;
pub mod reflection;
pub mod until_drain;
