//! Helpers that tests share: the service in this process, clients, and scripted upstreams. An upstream fails its test
//! when a request is missing or unexpected.

pub(crate) mod account;
pub(crate) mod collector;
pub(crate) mod details;
pub(crate) mod fake_redis;
pub(crate) mod files;
pub(crate) mod forward_proxy;
pub(crate) mod grpc;
pub(crate) mod http2_upstream;
pub(crate) mod http_page;
pub(crate) mod issuer;
pub(crate) mod lua_redis;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod raw_client;
pub(crate) mod raw_upstream;
pub(crate) mod relay;
pub(crate) mod reply;
pub(crate) mod service;
pub(crate) mod tls;
pub(crate) mod tls_client;
pub(crate) mod upstream;

use std::future::Future;

/// Awaits `future`. Fails the test after [`process::LIMIT`]; `what` names the event in the message.
pub(crate) async fn with_timeout<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(process::LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out waiting for {what}"),
    }
}
