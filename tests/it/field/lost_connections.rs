//! Connections to the upstream that are lost without a sign.
