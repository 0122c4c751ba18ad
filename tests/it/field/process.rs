//! The limits and descriptors that the process starts with.
