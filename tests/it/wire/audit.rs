//! The audit log has one line per call.

use countermand::proto::longrunning::{
    DeleteOperationRequest, GetOperationRequest, ListOperationsRequest, WaitOperationRequest,
};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    support::{
        grpc::CANCEL,
        reply::Reply,
        service::{Service, Setup},
        upstream::Upstream,
    },
    wire::NAME,
};

/// The lines so far, without `time`, `duration_ms` and `trace_id`, whose formats are asserted here.
fn lines(service: &Service) -> Vec<Value> {
    let mut lines = service.audit_log();
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        let time = line.remove("time").unwrap();
        let time = time.as_str().unwrap();
        assert_eq!((time.len(), &time[19..20], &time[23..]), (24, ".", "Z"), "{time}");
        humantime::parse_rfc3339(time).unwrap();
        let duration = line.remove("duration_ms").unwrap().as_f64().unwrap();
        assert!(duration > 0.0, "{duration}");
        let trace = line.remove("trace_id").unwrap();
        assert!(trace.as_str().is_some_and(|id| id.len() == 32), "{trace}");
        match (line.remove("caller"), line.remove("proof")) {
            (Some(caller), Some(proof)) => assert_eq!((caller, proof), ("anonymous".into(), "none".into())),
            (None, None) => _ = line.insert("caller".to_owned(), Value::Null),
            other => panic!("{other:?}"),
        }
        line.remove("credential");
    }
    lines
}

#[tokio::test]
async fn the_line_of_a_cancel_has_its_outcome() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let busy = Reply::plain_error(503, "UNAVAILABLE", "Busy.");
    upstream.answers([Reply::ok(), busy, Reply::plain_error(404, "NOT_FOUND", "Gone.")]);
    service.cancel(NAME).await.unwrap();
    service.cancel(NAME).await.unwrap_err();
    let line = |code: &str, attempts: u32, status: u16| {
        json!({
            "method": "CancelOperation", "name": NAME, "decision": "allow", "code": code,
            "attempts": attempts, "upstream_status": status,
        })
    };
    assert_eq!(lines(&service), [line("OK", 1, 200), line("NOT_FOUND", 2, 404)]);
}

#[tokio::test]
async fn each_line_has_the_method() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let mut client = service.client();
    let done = json!({"name": NAME, "done": true, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}});
    upstream.answers([Reply::json(200, &done), Reply::json(200, &json!({"operations": [done]}))]);
    client.get_operation(GetOperationRequest { name: NAME.to_owned() }).await.unwrap();
    client.get_operation(GetOperationRequest { name: NAME.to_owned() }).await.unwrap();
    let name = "enterprises/LC01/devices/d1/operations".to_owned();
    client.list_operations(ListOperationsRequest { name, ..Default::default() }).await.unwrap();
    client.wait_operation(WaitOperationRequest { name: NAME.to_owned(), timeout: None }).await.unwrap();
    client.delete_operation(DeleteOperationRequest { name: NAME.to_owned() }).await.unwrap_err();
    assert_eq!(
        lines(&service),
        [
            json!({"method": "GetOperation", "name": NAME, "decision": "allow", "code": "OK",
                   "attempts": 1, "upstream_status": 200}),
            // The operation is done, so the cache answers the call.
            json!({"method": "GetOperation", "name": NAME, "decision": "allow", "code": "OK"}),
            json!({"method": "ListOperations", "name": "enterprises/LC01/devices/d1/operations",
                   "decision": "allow", "code": "OK", "attempts": 1, "upstream_status": 200}),
            json!({"method": "WaitOperation", "name": NAME, "decision": "allow", "code": "OK"}),
            json!({"method": "DeleteOperation", "name": NAME, "decision": "invalid",
                   "code": "UNIMPLEMENTED"}),
        ]
    );
}

#[tokio::test]
async fn the_line_of_an_invalid_request_has_the_name_as_received() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let mut client = service.client();
    for name in ["", "a\nb\u{2028}\"}", &"x".repeat(5000)] {
        service.cancel(name).await.unwrap_err();
    }
    let name = "enterprises/LC01/devices/d1".to_owned();
    let list = ListOperationsRequest { name: name.clone(), page_size: -1, ..Default::default() };
    client.list_operations(list).await.unwrap_err();
    let timeout = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    client.wait_operation(WaitOperationRequest { name: NAME.to_owned(), timeout }).await.unwrap_err();
    let invalid = |method: &str, name: &str| {
        let code = "INVALID_ARGUMENT";
        json!({"method": method, "name": name, "decision": "invalid", "code": code})
    };
    assert_eq!(
        lines(&service),
        [
            invalid("CancelOperation", ""),
            invalid("CancelOperation", "a\nb\u{2028}\"}"),
            invalid("CancelOperation", &"x".repeat(1024)),
            invalid("ListOperations", &name),
            invalid("WaitOperation", NAME),
        ]
    );
}

#[tokio::test]
async fn the_line_of_an_unreadable_request_has_no_name() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    wire.start_raw(CANCEL, &[], b"\x0a\x01\xff").await.response().await;
    wire.start_raw(CANCEL, &[("grpc-encoding", "gzip")], b"").await.response().await;
    wire.cancel(NAME, &[("grpc-timeout", "soon")]).await;
    service.cancel(&"x".repeat(64 * 1024)).await.unwrap_err();
    // An unknown method has no audit line.
    wire.start_raw("/google.longrunning.Operations/Cancel", &[], b"").await.response().await;
    let line = |code: &str| json!({"method": "CancelOperation", "decision": "invalid", "code": code});
    let expected = ["INTERNAL", "UNIMPLEMENTED", "INVALID_ARGUMENT", "INVALID_ARGUMENT"].map(line);
    assert_eq!(lines(&service), expected);
}

#[tokio::test]
async fn each_caller_of_a_shared_call_has_a_line_with_the_outcome() {
    let upstream = Upstream::start().await;
    let (busy, gate) = Reply::plain_error(503, "UNAVAILABLE", "Busy.").held();
    upstream.answers([busy, Reply::ok()]);
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    let callers = [wire.start(NAME, &[]).await, wire.start(NAME, &[]).await, wire.start(NAME, &[]).await];
    upstream.wait_for_requests(1).await;
    wire.wait_until_received().await;
    gate.open();
    for caller in callers {
        assert_eq!(caller.response().await.code(), Code::Ok);
    }
    let lines = &lines(&service)[1..];
    let line = json!({"method": "CancelOperation", "name": NAME, "decision": "allow", "code": "OK",
                      "attempts": 2, "upstream_status": 200});
    let mut shared = line.clone();
    shared["shared"] = true.into();
    assert_eq!(lines.iter().filter(|found| **found == line).count(), 1, "{lines:?}");
    assert_eq!(lines.iter().filter(|found| **found == shared).count(), 2, "{lines:?}");
}

#[tokio::test]
async fn a_line_has_the_policies_that_decided() {
    const POLICY: &str = r#"
        @id("readers") permit (principal, action == Action::"get", resource in Enterprise::"LC01");
        @id("no-cancels") forbid (principal, action == Action::"cancel", resource);
    "#;
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).policy(POLICY).start().await;
    upstream.answers([Reply::json(200, &json!({"name": NAME}))]);
    service.client().get_operation(GetOperationRequest { name: NAME.to_owned() }).await.unwrap();
    service.cancel(NAME).await.unwrap_err();
    service
        .client()
        .wait_operation(WaitOperationRequest { name: NAME.to_owned(), timeout: None })
        .await
        .unwrap_err();
    assert_eq!(
        lines(&service),
        [
            json!({"method": "GetOperation", "name": NAME, "decision": "allow", "policies": ["readers"],
                   "code": "OK", "attempts": 1, "upstream_status": 200}),
            json!({"method": "CancelOperation", "name": NAME, "decision": "deny", "policies": ["no-cancels"],
                   "code": "PERMISSION_DENIED"}),
            // No rule permits the call.
            json!({"method": "WaitOperation", "name": NAME, "decision": "deny",
                   "code": "PERMISSION_DENIED"}),
        ]
    );
}

#[tokio::test]
async fn an_overload_and_a_deadline_are_recorded() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::hanging()]);
    let service = Setup::of(&upstream).max_concurrent_calls(1).start().await;
    let wire = service.wire().await;
    let started = wire.start(NAME, &[("grpc-timeout", "500m")]).await;
    upstream.wait_for_requests(1).await;
    wire.cancel(NAME, &[]).await;
    assert_eq!(started.response().await.code(), Code::DeadlineExceeded);
    assert_eq!(
        lines(&service),
        [
            // The call is refused before the caller is identified.
            json!({"method": "CancelOperation", "code": "UNAVAILABLE", "caller": null}),
            // The request was sent, and its outcome is not known yet.
            json!({"method": "CancelOperation", "name": NAME, "decision": "allow",
                   "code": "DEADLINE_EXCEEDED", "attempts": 1}),
        ]
    );
}

#[tokio::test]
async fn the_trace_id_is_the_callers_or_generated() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    let header = format!("00-{TRACE}-b7ad6b7169203331-01");
    let broken = format!("00-{TRACE}-0000000000000000-01");
    wire.cancel("none", &[("traceparent", &header)]).await;
    wire.cancel("none", &[("traceparent", &broken)]).await;
    wire.cancel("none", &[("traceparent", &header), ("traceparent", &header)]).await;
    wire.cancel("none", &[]).await;
    let log = service.audit_log();
    let traces: Vec<_> = log.iter().map(|line| line["trace_id"].as_str().unwrap()).collect();
    assert_eq!(traces[0], TRACE);
    for generated in &traces[1..] {
        assert_ne!(*generated, TRACE);
        assert!(
            generated.len() == 32 && generated.bytes().all(|digit| b"0123456789abcdef".contains(&digit)),
            "{generated}"
        );
    }
    assert_ne!(traces[2], traces[3]);
}
