//! Requests that are not gRPC. The service refuses them before it identifies the caller.

use http::{Method, Request, StatusCode};
use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        details::assert_our_error,
        grpc::{CANCEL, Wire, by_name, grpc_frame},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

/// A path that ends like a known method, but is a different path.
const UNKNOWN_PATH: &str = "/google.longrunning.Operations/x/CancelOperation";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Sends a cancel with this method, path and content type. Returns the HTTP status, whether the `allow` header is POST,
/// and the gRPC status.
async fn send(wire: &Wire, method: Method, path: &str, content_type: &[&str]) -> (u16, bool, tonic::Status) {
    let mut request = Request::builder().method(method).uri(format!("http://service{path}"));
    for content_type in content_type {
        request = request.header("content-type", *content_type);
    }
    let (started, mut body) = wire.send_headers(request.body(()).unwrap()).await;
    body.send_data(grpc_frame(&by_name(NAME)), true).unwrap();
    let response = with_timeout("a response", started.0).await.unwrap();
    let status = tonic::Status::from_header_map(response.headers());
    let allows_post = response.headers().get("allow").is_some_and(|allowed| allowed == "POST");
    (response.status().as_u16(), allows_post, status.unwrap_or_else(|| tonic::Status::ok("")))
}

#[tokio::test]
async fn another_content_type_is_refused_and_recorded() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    let others = [&["text/plain"][..], &["application/json"], &["application/grpc-web"], &[""], &[]];
    for content_type in others {
        let (status, _, grpc) = send(&wire, Method::POST, CANCEL, content_type).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type:?}");
        assert_our_error(&grpc, Code::InvalidArgument, "NOT_GRPC");
    }
    let log = service.audit_log();
    assert_eq!(log.len(), others.len());
    for line in log {
        let fields = json!([line["method"], line["decision"], line["code"], line["caller"], line["name"]]);
        assert_eq!(fields, json!(["CancelOperation", "invalid", "INVALID_ARGUMENT", null, null]));
    }
}

#[tokio::test]
async fn another_method_than_post_is_refused_and_recorded() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    let others = [Method::GET, Method::PUT, Method::OPTIONS];
    for method in others.clone() {
        let (status, allows_post, grpc) = send(&wire, method, CANCEL, &["application/grpc"]).await;
        assert_eq!((status, allows_post), (405, true));
        assert_our_error(&grpc, Code::InvalidArgument, "NOT_GRPC");
    }
    let log = service.audit_log();
    assert_eq!(log.len(), others.len());
    assert!(log.iter().all(|line| line["decision"] == "invalid" && line["code"] == "INVALID_ARGUMENT"));
}

#[tokio::test]
async fn every_grpc_content_type_is_accepted() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
        let (status, _, grpc) = send(&wire, Method::POST, CANCEL, &[content_type]).await;
        assert_eq!((status, grpc.code()), (200, Code::Ok), "{content_type}");
    }
    assert_eq!(service.audit_log().len(), 3);
}

#[tokio::test]
async fn other_grpc_services_refuse_requests_that_are_not_grpc() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    assert_eq!(send(&wire, Method::POST, HEALTH, &["text/plain"]).await.0, 415);
    assert_eq!(send(&wire, Method::GET, HEALTH, &["application/grpc"]).await.0, 405);
    assert!(service.audit_log().is_empty());
}

#[tokio::test]
async fn a_path_that_only_ends_like_a_known_method_is_unimplemented() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    let (status, _, grpc) = send(&wire, Method::POST, UNKNOWN_PATH, &["application/grpc"]).await;
    assert_eq!((status, grpc.code()), (200, Code::Unimplemented));
    assert!(service.audit_log().is_empty());
}
