//! The client of the Android Management API.

pub mod error;
pub mod google_error;
