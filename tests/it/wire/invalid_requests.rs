//! Requests that are refused before any upstream call. Every upstream here fails its test on any request.

use countermand::proto::longrunning::{
    DeleteOperationRequest, GetOperationRequest, ListOperationsRequest, WaitOperationRequest,
};
use tonic::Code;
use tonic_types::pb;

use crate::support::{
    details::{OUR_DOMAIN, assert_our_error, assert_status, error_info, to_any},
    grpc::CANCEL,
    service::Setup,
    upstream::Upstream,
};

#[tokio::test]
async fn an_invalid_name_is_a_field_violation() {
    const SEGMENT: &str = "must be 1 to 255 characters of A-Z a-z 0-9 - _ . ~, and not . or ..";
    const PATTERN: &str = "must be of the form enterprises/*/devices/*/operations/*";
    const WILDCARD: &str = "must be named: the wildcard - is only for the device in ListOperations";
    let long = format!("enterprises/LC01/devices/d1/operations/{}", "1".repeat(256));
    let longer = format!("enterprises/LC01/devices/d1/operations/{}", "1".repeat(60_000));
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    for (name, description) in [
        ("", PATTERN.to_owned()),
        ("operations/1", PATTERN.to_owned()),
        ("/enterprises/LC01/devices/d1/operations/1", PATTERN.to_owned()),
        ("v1/enterprises/LC01/devices/d1/operations/1", PATTERN.to_owned()),
        ("Enterprises/LC01/devices/d1/operations/1", PATTERN.to_owned()),
        ("enterprises/LC01/devices/d1", PATTERN.to_owned()),
        ("enterprises/LC01/devices/d1/operations", PATTERN.to_owned()),
        ("enterprises/LC01/devices/d1/operations/1/", PATTERN.to_owned()),
        ("enterprises/LC01/devices/d1/operations/1/more", PATTERN.to_owned()),
        ("enterprises//devices/d1/operations/1", format!("the enterprise {SEGMENT}")),
        ("enterprises/../devices/d1/operations/1", format!("the enterprise {SEGMENT}")),
        ("enterprises/LC01/devices/./operations/1", format!("the device {SEGMENT}")),
        ("enterprises/LC01/devices/d1/operations/..", format!("the operation {SEGMENT}")),
        ("enterprises/LC01/devices/d1/operations/1:cancel", format!("the operation {SEGMENT}")),
        ("enterprises/LC01/devices/d1/operations/1?a=b", format!("the operation {SEGMENT}")),
        ("enterprises/LC01/devices/d1/operations/1#a", format!("the operation {SEGMENT}")),
        ("enterprises/LC01/devices/d1/operations/%2e%2e", format!("the operation {SEGMENT}")),
        ("enterprises/LC01/devices/d1/operations/1\r\nx: y", format!("the operation {SEGMENT}")),
        ("enterprises/LC01/devices/d1/operations/1\0", format!("the operation {SEGMENT}")),
        ("enterprises/LC01/devices/d1/operations/ä", format!("the operation {SEGMENT}")),
        (&long, format!("the operation {SEGMENT}")),
        (&longer, format!("the operation {SEGMENT}")),
        ("enterprises/-/devices/d1/operations/1", format!("the enterprise {WILDCARD}")),
        ("enterprises/LC01/devices/-/operations/1", format!("the device {WILDCARD}")),
        ("enterprises/LC01/devices/d1/operations/-", format!("the operation {WILDCARD}")),
    ] {
        let status = service.cancel(name).await.unwrap_err();
        let violation = pb::bad_request::FieldViolation {
            field: "name".to_owned(),
            description: description.clone(),
            reason: "INVALID_NAME".to_owned(),
            localized_message: None,
        };
        let violations = pb::BadRequest { field_violations: vec![violation] };
        let details =
            vec![error_info(OUR_DOMAIN, "INVALID_NAME"), to_any("google.rpc.BadRequest", &violations)];
        assert_status(&status, Code::InvalidArgument, &format!("name: {description}"), details);
    }
}

#[tokio::test]
async fn delete_is_unimplemented() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let status = service.client().delete_operation(DeleteOperationRequest::default()).await.unwrap_err();
    assert_our_error(&status, Code::Unimplemented, "NOT_SUPPORTED");
}

#[tokio::test]
async fn every_method_refuses_an_invalid_name() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let mut client = service.client();
    for status in [
        client.get_operation(GetOperationRequest::default()).await.unwrap_err(),
        client.list_operations(ListOperationsRequest::default()).await.unwrap_err(),
        client.wait_operation(WaitOperationRequest::default()).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn unknown_methods_and_services_are_unimplemented() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    for path in [
        "/google.longrunning.Operations/Cancel",
        "/google.longrunning.Operations/",
        "/google.longrunning.operations/CancelOperation",
        "/google.longrunning.OperationsX/CancelOperation",
        "/v1/google.longrunning.Operations/CancelOperation",
        "/",
    ] {
        let response = wire.start_raw(path, &[], b"").await.response().await;
        assert_our_error(&response.status(), Code::Unimplemented, "UNIMPLEMENTED");
    }
}

#[tokio::test]
async fn a_malformed_or_compressed_message_is_refused() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    // A truncated field, and a name that is not UTF-8.
    for message in [&b"\x0a\xff"[..], b"\x0a\x01\xff"] {
        let response = wire.start_raw(CANCEL, &[], message).await.response().await;
        assert_our_error(&response.status(), Code::Internal, "INTERNAL");
    }
    let compressed = [("grpc-encoding", "gzip")];
    let response = wire.start_raw(CANCEL, &compressed, b"").await.response().await;
    assert_our_error(&response.status(), Code::Unimplemented, "UNIMPLEMENTED");
}
