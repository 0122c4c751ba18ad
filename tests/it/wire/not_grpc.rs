//! Requests that are not gRPC's. Nothing is done for them, whoever sends them.

use http::{Method, Request, StatusCode};
use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        details::assert_ours,
        grpc::{CANCEL, Wire, by_name, framed},
        reply::Reply,
        service::Setup,
        soon,
        upstream::Upstream,
    },
    wire::NAME,
};

/// The path of a method that is not the contract's, though its last part is.
const LONGER: &str = "/google.longrunning.Operations/x/CancelOperation";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A cancel in other words: its HTTP status, whether it says which method is allowed, and its answer in gRPC.
async fn send(wire: &Wire, method: Method, path: &str, content_type: &[&str]) -> (u16, bool, tonic::Status) {
    let mut request = Request::builder().method(method).uri(format!("http://service{path}"));
    for content_type in content_type {
        request = request.header("content-type", *content_type);
    }
    let (started, mut body) = wire.begin(request.body(()).unwrap()).await;
    body.send_data(framed(&by_name(NAME)), true).unwrap();
    let answer = soon("an answer", started.0).await.unwrap();
    let status = tonic::Status::from_header_map(answer.headers());
    let says_allowed = answer.headers().get("allow").is_some_and(|allowed| allowed == "POST");
    (answer.status().as_u16(), says_allowed, status.unwrap_or_else(|| tonic::Status::ok("")))
}

#[tokio::test]
async fn another_content_type_is_refused_and_leaves_a_line() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    let others = [&["text/plain"][..], &["application/json"], &["application/grpc-web"], &[""], &[]];
    for content_type in others {
        let (status, _, grpc) = send(&wire, Method::POST, CANCEL, content_type).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type:?}");
        assert_ours(&grpc, Code::InvalidArgument, "NOT_GRPC");
    }
    let log = service.audit_log();
    assert_eq!(log.len(), others.len());
    for line in log {
        let told = json!([line["method"], line["decision"], line["code"], line["caller"], line["name"]]);
        assert_eq!(told, json!(["CancelOperation", "invalid", "INVALID_ARGUMENT", null, null]));
    }
}

#[tokio::test]
async fn another_method_than_post_is_refused_and_leaves_a_line() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    let others = [Method::GET, Method::PUT, Method::OPTIONS];
    for method in others.clone() {
        let (status, says_allowed, grpc) = send(&wire, method, CANCEL, &["application/grpc"]).await;
        assert_eq!((status, says_allowed), (405, true));
        assert_ours(&grpc, Code::InvalidArgument, "NOT_GRPC");
    }
    let log = service.audit_log();
    assert_eq!(log.len(), others.len());
    assert!(log.iter().all(|line| line["decision"] == "invalid" && line["code"] == "INVALID_ARGUMENT"));
}

#[tokio::test]
async fn every_spelling_of_the_content_type_is_served() {
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
async fn other_services_take_nothing_else_either() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    assert_eq!(send(&wire, Method::POST, HEALTH, &["text/plain"]).await.0, 415);
    assert_eq!(send(&wire, Method::GET, HEALTH, &["application/grpc"]).await.0, 405);
    assert!(service.audit_log().is_empty());
}

#[tokio::test]
async fn a_path_that_only_ends_like_a_methods_is_no_call_of_it() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    let (status, _, grpc) = send(&wire, Method::POST, LONGER, &["application/grpc"]).await;
    assert_eq!((status, grpc.code()), (200, Code::Unimplemented));
    assert!(service.audit_log().is_empty());
}
