//! What the tests over real sockets share: the service in this process, and upstreams that do as they are
//! told and fail their test when a call is missing or was not expected.

pub(crate) mod account;
pub(crate) mod details;
pub(crate) mod files;
pub(crate) mod frames;
pub(crate) mod grpc;
pub(crate) mod issuer;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod raw_client;
pub(crate) mod reply;
pub(crate) mod service;
pub(crate) mod tls;
pub(crate) mod tls_client;
pub(crate) mod upstream;

use std::{future::Future, time::Duration};

/// Longer than anything here takes on the slowest machine: what is not there by then never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what is sure to happen.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, happens).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
