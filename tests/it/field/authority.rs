//! The `:authority` that clients send.
