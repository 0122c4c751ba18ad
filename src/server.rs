//! What serves gRPC.

pub mod health;
pub mod reflection;
