//! The service in this process, between a gRPC client and a scripted upstream, over real sockets. Tests check the
//! bytes on both sides.

mod attempts;
mod audit;
mod cancel;
mod client_disconnect;
mod connection_limits;
mod credential_routing;
mod credentials;
mod deadlines;
mod forward_proxy;
mod get_list_wait;
mod google_errors;
mod http2_streams;
mod identity;
mod incomplete_requests;
mod invalid_requests;
mod metrics;
mod not_grpc;
mod open_services;
mod overload;
mod policy;
mod server_tls;
mod sharing;
mod stream_resets;
mod token_endpoint;
mod token_redaction;
mod unread_responses;
mod upstream_failures;
mod upstream_tls;

pub(crate) const NAME: &str = "enterprises/LC01/devices/d1/operations/17";
