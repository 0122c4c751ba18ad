//! Envoy's gRPC-JSON reverse transcoder, the nearest thing to Countermand that needs no code, for comparison.
//!
//! It turns the gRPC cancel into the same REST call, with a token from its configuration: it has no refresh, no
//! policy, no audit log, and none of Countermand's errors.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};
use prost::Message;
use serde_json::json;
use tokio::process::Command;

use crate::files::Paths;
use crate::grpc::{Connection, Endpoint};
use crate::process::{Cores, Process};
use crate::target::{POLL, SERVING_TIMEOUT, Target, free_address};
use crate::{Error, operation};

/// Starts the Envoy of `program` with one worker thread.
///
/// # Errors
///
/// When it ends, or does not listen within [`SERVING_TIMEOUT`].
pub(crate) async fn start(
    program: &Path,
    paths: &Paths,
    upstream: SocketAddr,
    cores: Option<&Cores>,
) -> Result<Target, Error> {
    let address = free_address()?;
    let file = paths.directory().join("envoy.json");
    fs::write(&file, configuration(paths, address, upstream).to_string())?;
    let mut command = Command::new(program);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(file);
    let process = Process::start("Envoy", command, paths, cores)?;
    let mut target = Target { process, endpoint: Endpoint { address, tls: None } };
    let start = Instant::now();
    while let Err(error) = Connection::open(&target.endpoint).await {
        target.process.expect_alive().await?;
        if start.elapsed() > SERVING_TIMEOUT {
            return Err(target.process.explain(error).await);
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(target)
}

fn configuration(paths: &Paths, address: SocketAddr, upstream: SocketAddr) -> serde_json::Value {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let typed = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    let transcoder = json!({
        "name": "envoy.filters.http.grpc_json_reverse_transcoder",
        "typed_config": {
            "@type": typed("filters.http.grpc_json_reverse_transcoder.v3.GrpcJsonReverseTranscoder"),
            "descriptor_binary": BASE64_STANDARD.encode(descriptors().encode_to_vec()),
        },
    });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": typed("filters.http.router.v3.Router")},
    });
    let route = json!({
        "match": {"prefix": "/"},
        "route": {"cluster": "upstream", "host_rewrite_literal": format!("localhost:{}", upstream.port())},
        "request_headers_to_add": [{
            "header": {"key": "authorization", "value": format!("Bearer ya29.{}", operation::ENTERPRISE)},
        }],
    });
    let connection_manager = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": typed("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "calls",
            "codec_type": "HTTP2",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [transcoder, router],
        },
    });
    let tls = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": typed("transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "localhost",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "validation_context": {"trusted_ca": {"filename": paths.authority()}},
            },
        },
    });
    let endpoint = json!({"endpoint": {"address": socket(upstream)}});
    let http = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({"static_resources": {
        "listeners": [{
            "name": "calls",
            "address": socket(address),
            "filter_chains": [{"filters": [connection_manager]}],
        }],
        "clusters": [{
            "name": "upstream",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
            "typed_extension_protocol_options": {http: {
                "@type": typed("upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "transport_socket": tls,
        }],
    }})
}

/// `google.longrunning.Operations` with the one method, and with the HTTP rule of AMAPI.
fn descriptors() -> FileDescriptorSet {
    let name =
        FieldDescriptor { name: "name".into(), number: 1, label: 1, r#type: 9, json_name: "name".into() };
    let request = MessageDescriptor { name: "CancelOperationRequest".into(), field: vec![name] };
    let response = MessageDescriptor { name: "Empty".into(), field: Vec::new() };
    let rule = HttpRule { post: "/v1/{name=enterprises/*/devices/*/operations/*}:cancel".into() };
    let method = MethodDescriptor {
        name: "CancelOperation".into(),
        input_type: ".google.longrunning.CancelOperationRequest".into(),
        output_type: ".google.longrunning.Empty".into(),
        options: Some(MethodOptions { http: Some(rule) }),
    };
    let service = ServiceDescriptor { name: "Operations".into(), method: vec![method] };
    FileDescriptorSet {
        file: vec![FileDescriptor {
            name: "operations.proto".into(),
            package: "google.longrunning".into(),
            message_type: vec![request, response],
            service: vec![service],
            syntax: "proto3".into(),
        }],
    }
}

// The messages of `google/protobuf/descriptor.proto`, as far as they are used. Those of `prost-types` have no
// extensions, and so no HTTP rule.

#[derive(Clone, PartialEq, Message)]
struct FileDescriptorSet {
    #[prost(message, repeated, tag = "1")]
    file: Vec<FileDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct FileDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    message_type: Vec<MessageDescriptor>,
    #[prost(message, repeated, tag = "6")]
    service: Vec<ServiceDescriptor>,
    #[prost(string, tag = "12")]
    syntax: String,
}

#[derive(Clone, PartialEq, Message)]
struct MessageDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    field: Vec<FieldDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "3")]
    number: i32,
    #[prost(int32, tag = "4")]
    label: i32,
    #[prost(int32, tag = "5")]
    r#type: i32,
    #[prost(string, tag = "10")]
    json_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<MethodDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct MethodDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    input_type: String,
    #[prost(string, tag = "3")]
    output_type: String,
    #[prost(message, optional, tag = "4")]
    options: Option<MethodOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct MethodOptions {
    /// The extension `google.api.http`.
    #[prost(message, optional, tag = "72295728")]
    http: Option<HttpRule>,
}

#[derive(Clone, PartialEq, Message)]
struct HttpRule {
    #[prost(string, tag = "4")]
    post: String,
}
