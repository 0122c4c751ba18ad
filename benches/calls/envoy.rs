//! Envoy's gRPC-JSON reverse transcoder, for comparison. It is the closest alternative to Countermand without code.
//!
//! Envoy converts the gRPC cancel to the same REST call, with a token from its configuration. It has no token
//! refresh, no policy, no audit log, and none of Countermand's errors.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;
use tokio::process::Command;

use crate::files::Files;
use crate::grpc::{Connection, Endpoint};
use crate::process::{Cores, Process};
use crate::target::{POLL_INTERVAL, SERVING_TIMEOUT, Target, free_address};
use crate::{Error, operation};

/// Starts the Envoy of `program` with one worker thread.
pub(crate) async fn start(
    program: &Path,
    files: &Files,
    upstream: SocketAddr,
    cores: Option<&Cores>,
) -> Result<Target, Error> {
    let address = free_address()?;
    let file = files.directory.join("envoy.json");
    fs::write(&file, configuration(files, address, upstream).to_string())?;
    let mut command = Command::new(program);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(file);
    let process = Process::start("Envoy", command, files, cores)?;
    let mut target = Target { process, endpoint: Endpoint { address, tls: None, socket: None } };
    let start = Instant::now();
    while let Err(error) = Connection::open(&target.endpoint).await {
        target.process.expect_running().await?;
        if start.elapsed() > SERVING_TIMEOUT {
            return Err(target.process.explain(error).await);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(target)
}

fn configuration(files: &Files, address: SocketAddr, upstream: SocketAddr) -> serde_json::Value {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let typed = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    let transcoder = json!({
        "name": "envoy.filters.http.grpc_json_reverse_transcoder",
        "typed_config": {
            "@type": typed("filters.http.grpc_json_reverse_transcoder.v3.GrpcJsonReverseTranscoder"),
            "descriptor_binary": BASE64_STANDARD.encode(descriptors()),
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
                "validation_context": {"trusted_ca": {"filename": files.authority()}},
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

/// A `google.protobuf.FileDescriptorSet`: `google.longrunning.Operations` with `CancelOperation` and AMAPI's HTTP
/// rule. It is encoded here, because the types of `prost-types` have no extensions.
fn descriptors() -> Vec<u8> {
    // Field number 1, LABEL_OPTIONAL, TYPE_STRING.
    let name = [text(1, "name"), integer(3, 1), integer(4, 1), integer(5, 9), text(10, "name")].concat();
    let request = [text(1, "CancelOperationRequest"), bytes(2, &name)].concat();
    let response = text(1, "Empty");
    let rule = text(4, "/v1/{name=enterprises/*/devices/*/operations/*}:cancel");
    let method = [
        text(1, "CancelOperation"),
        text(2, ".google.longrunning.CancelOperationRequest"),
        text(3, ".google.longrunning.Empty"),
        bytes(4, &bytes(HTTP_EXTENSION, &rule)),
    ];
    let service = [text(1, "Operations"), bytes(2, &method.concat())].concat();
    let file = [
        text(1, "operations.proto"),
        text(2, "google.longrunning"),
        bytes(4, &request),
        bytes(4, &response),
        bytes(6, &service),
        text(12, "proto3"),
    ];
    bytes(1, &file.concat())
}

/// `google.api.http`, an extension of `google.protobuf.MethodOptions`.
const HTTP_EXTENSION: u64 = 72_295_728;

fn text(number: u64, text: &str) -> Vec<u8> {
    bytes(number, text.as_bytes())
}

/// A field of wire type 2: a string, bytes or a message.
fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field of wire type 0.
fn integer(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    while value >= 0x80 {
        encoded.push(value as u8 | 0x80);
        value >>= 7;
    }
    encoded.push(value as u8);
    encoded
}
