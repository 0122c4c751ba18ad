//! Reflection requests.
