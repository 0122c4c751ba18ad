//! Calls from the gRPC client to the upstream, over real sockets: what each of them sees, in good times
//! and in bad.

mod answers;
mod attempts;
mod audit;
mod connections;
mod credentials;
mod deadlines;
mod forwarding;
mod hang_up;
mod identity;
mod late_messages;
mod not_grpc;
mod overload;
mod policy;
mod proxy;
mod quoted_token;
mod reading;
mod refusals;
mod resets;
mod routing;
mod server_tls;
mod sharing;
mod streams;
mod tls;
mod token_endpoint;
mod unread;
mod upstreams;

const NAME: &str = "enterprises/LC01/devices/d1/operations/17";
