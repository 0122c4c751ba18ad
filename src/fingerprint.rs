//! Fingerprints, by which contents are compared without being kept.

use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 of `content`.
#[must_use]
pub fn fingerprint(content: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, content).as_ref());
    bytes
}
