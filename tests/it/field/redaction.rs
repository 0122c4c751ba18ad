//! Secrets in the metadata of operations.
