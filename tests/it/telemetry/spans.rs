//! The spans of calls, their parents, links and attributes.

use countermand::proto::{
    longrunning::{GetOperationRequest, WaitOperationRequest},
    otlp::trace::span::SpanKind::{Client, Internal, Server},
};
use serde_json::json;
use tonic::Code;

use super::{PARENT, TRACE, cancel, exporting, only, requests, traceparent};
use crate::{
    support::{
        collector::{Collector, has_error, hexadecimal, keys, of},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
    },
    wire::NAME,
};

const CANCEL: &str = "google.longrunning.Operations/CancelOperation";

#[tokio::test]
async fn a_cancel_has_a_span_and_its_decision_token_and_request_are_children() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.answers([Reply::ok()]);
    let service = exporting(Setup::of(&upstream), &collector).start().await;
    let headers =
        [("traceparent", &*traceparent("01")), ("tracestate", "vendor=1"), ("tracestate", "other=2")];
    cancel(service.client(), NAME, &headers).await.unwrap();

    let spans = collector.calls(1).await;
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let call = only(&spans, Server, CANCEL);
    assert_eq!(
        (hexadecimal(&call.trace_id), hexadecimal(&call.parent_span_id)),
        (TRACE.into(), PARENT.into())
    );
    // Sampled, and the parent belongs to another process.
    assert_eq!((call.flags, call.trace_state.as_str()), (0x301, "vendor=1,other=2"));
    for (key, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", CANCEL),
        ("rpc.response.status_code", "OK"),
        ("countermand.resource", NAME),
        ("countermand.decision", "allow"),
        ("countermand.credential", "default"),
    ] {
        assert_eq!(of(call, key), value);
    }
    assert_eq!(call.attributes.len(), 6, "{call:?}");

    let request = only(&spans, Client, "POST");
    for child in [only(&spans, Internal, "policy"), only(&spans, Internal, "token"), request] {
        assert_eq!((&child.trace_id, &child.parent_span_id), (&call.trace_id, &call.span_id));
        assert!(child.start_time_unix_nano >= call.start_time_unix_nano);
        assert!(child.end_time_unix_nano <= call.end_time_unix_nano);
        assert_eq!(child.flags, 0x101, "the parent belongs to this process");
    }
    assert!(!spans.iter().any(has_error), "{spans:#?}");
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("server.address", "127.0.0.1"),
        ("server.port", &upstream.address.port().to_string()),
        ("url.full", &format!("{}/v1/{NAME}:cancel", upstream.url())),
    ] {
        assert_eq!(of(request, key), value);
    }
    assert_eq!(request.attributes.len(), 5, "{request:?}");

    let sent = &upstream.requests()[0].headers;
    assert_eq!(sent["traceparent"], format!("00-{TRACE}-{}-01", hexadecimal(&request.span_id)));
    assert_eq!(sent["tracestate"], "vendor=1,other=2");
    assert_eq!(service.audit_line("CancelOperation", "OK").await["trace_id"], TRACE);
}

#[tokio::test]
async fn a_call_without_a_parent_starts_the_trace_of_its_audit_line() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.answers([Reply::ok()]);
    let service = exporting(Setup::of(&upstream), &collector).start().await;
    cancel(service.client(), NAME, &[("tracestate", "vendor=1")]).await.unwrap();
    let spans = collector.calls(1).await;
    let call = only(&spans, Server, CANCEL);
    assert_eq!((&call.parent_span_id[..], call.trace_state.as_str()), (&[][..], ""));
    let line = service.audit_line("CancelOperation", "OK").await;
    assert_eq!(line["trace_id"], hexadecimal(&call.trace_id));
}

#[tokio::test]
async fn each_request_has_a_span_with_its_number_and_error() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.answers([
        Reply::json(503, &json!({})),
        Reply::ok().with_truncated_body(),
        Reply::json(404, &json!({})),
    ]);
    let service = exporting(Setup::of(&upstream), &collector).start().await;
    cancel(service.client(), NAME, &[]).await.unwrap();
    let error = cancel(service.client(), NAME, &[]).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);

    let spans = collector.calls(2).await;
    let [first, second, third] = requests(&spans)[..] else { panic!("{spans:#?}") };
    assert!(has_error(first) && !has_error(second) && has_error(third));
    assert_eq!([of(first, "error.type"), of(third, "error.type")], ["503", "404"]);
    assert_eq!(of(second, "http.request.resend_count"), "1");
    assert!(!keys(first).contains(&"http.request.resend_count"));
    let not_found = spans
        .iter()
        .find(|span| span.kind() == Server && of(span, "rpc.response.status_code") == "NOT_FOUND");
    assert!(!has_error(not_found.expect("a span of the second call")), "NOT_FOUND concerns the caller");
}

#[tokio::test]
async fn an_error_of_the_server_is_the_error_of_the_span() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    let setup = exporting(
        Setup::new("http://127.0.0.1:1", &crate::support::account::key_file(&upstream.token_url())),
        &collector,
    );
    let service = setup.timeout("1s").start().await;
    cancel(service.client(), NAME, &[]).await.unwrap_err();
    let spans = collector.calls(1).await;
    let call = only(&spans, Server, CANCEL);
    assert!(has_error(call));
    assert_eq!([of(call, "error.type"), of(call, "rpc.response.status_code")], ["UNAVAILABLE"; 2]);
    assert!(requests(&spans).iter().all(|request| of(request, "error.type") == "connect"), "{spans:#?}");
}

#[tokio::test]
async fn a_denied_call_has_its_decision() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    let setup = exporting(Setup::of(&upstream), &collector).policy("forbid (principal, action, resource);");
    let service = setup.start().await;
    cancel(service.client(), NAME, &[]).await.unwrap_err();
    cancel(service.client(), "enterprises", &[]).await.unwrap_err();
    let spans = collector.calls(2).await;
    let decisions = |code| {
        let call =
            spans.iter().find(|span| span.kind() == Server && of(span, "rpc.response.status_code") == code);
        of(call.expect("a call"), "countermand.decision")
    };
    assert_eq!([decisions("PERMISSION_DENIED"), decisions("INVALID_ARGUMENT")], ["deny", "invalid"]);
    assert!(!spans.iter().any(has_error));
}

#[tokio::test]
async fn a_request_without_a_response_has_a_timeout() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.answers([Reply::hanging()]);
    let service = exporting(Setup::of(&upstream), &collector).timeout("300ms").start().await;
    let error = cancel(service.client(), NAME, &[]).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let request = collector.span(|span| span.kind() == Client).await;
    assert_eq!(of(&request, "error.type"), "timeout");
    let call = collector.span(|span| span.kind() == Server).await;
    assert_eq!(of(&call, "error.type"), "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_call_that_joins_another_is_linked_to_it() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = exporting(Setup::of(&upstream), &collector).start().await;
    let wire = service.wire().await;
    let mut calls = Vec::new();
    for _ in 0..2 {
        calls.push(wire.start(NAME, &[]).await);
    }
    wire.wait_until_received().await;
    gate.open();
    for call in calls {
        assert_eq!(call.response().await.code(), Code::Ok);
    }
    // The third call is that of the wait above.
    let spans = collector.calls(3).await;
    let calls = spans.iter().filter(|span| span.kind() == Server && of(span, "countermand.resource") == NAME);
    let (joined, started): (Vec<_>, Vec<_>) = calls.partition(|span| !span.links.is_empty());
    let ([joined], [started]) = (&joined[..], &started[..]) else { panic!("{spans:#?}") };
    let [link] = &joined.links[..] else { panic!("{joined:?}") };
    assert_eq!((&link.trace_id, &link.span_id), (&started.trace_id, &started.span_id));
    assert_eq!(of(joined, "countermand.shared"), "true");
    assert_ne!(joined.trace_id, started.trace_id);
    assert_eq!(only(&spans, Client, "POST").parent_span_id, started.span_id);
}

#[tokio::test]
async fn a_poll_has_a_trace_of_its_own_with_links_to_its_waiters() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    let operation = |done| Reply::json(200, &json!({"name": NAME, "done": done}));
    let (done, gate) = operation(true).held();
    upstream.answers([operation(false), done]);
    let setup =
        exporting(Setup::of(&upstream), &collector).variable("COUNTERMAND_POLLING_MIN_INTERVAL", "100ms");
    let service = setup.start().await;
    let wait = |mut client: countermand::proto::longrunning::operations_client::OperationsClient<_>| async move {
        let request = WaitOperationRequest { name: NAME.to_owned(), timeout: None };
        client.wait_operation(request).await.unwrap().into_inner()
    };
    let first = tokio::spawn(wait(service.client()));
    upstream.wait_for_requests(1).await;
    let second = tokio::spawn(wait(service.client()));
    upstream.wait_for_requests(2).await;
    gate.open();
    assert!(first.await.unwrap().done && second.await.unwrap().done);

    collector.calls(2).await;
    let poll = collector.span(|span| span.name == "poll").await;
    let spans = collector.spans();
    let waits: Vec<_> = spans.iter().filter(|span| span.kind() == Server).collect();
    assert!(poll.parent_span_id.is_empty() && waits.iter().all(|wait| wait.trace_id != poll.trace_id));
    assert_eq!(of(&poll, "countermand.resource"), "enterprises/LC01/devices/d1");
    let mut linked: Vec<_> = poll.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
    let mut want: Vec<_> = waits.iter().map(|wait| (&wait.trace_id, &wait.span_id)).collect();
    // The second wait may have joined after the poll began.
    linked.sort_unstable();
    want.sort_unstable();
    assert!(!linked.is_empty() && linked.iter().all(|link| want.contains(link)), "{poll:?}\n{waits:?}");
    let polls: Vec<_> =
        requests(&spans).into_iter().filter(|request| request.parent_span_id == poll.span_id).collect();
    let [polled] = polls[..] else { panic!("{spans:#?}") };
    let sent = &upstream.requests()[1].headers["traceparent"];
    assert_eq!(*sent, format!("00-{}-{}-03", hexadecimal(&poll.trace_id), hexadecimal(&polled.span_id)));
}

#[tokio::test]
async fn the_query_of_a_list_is_not_in_a_span() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.answers([Reply::json(200, &json!({}))]);
    let service = exporting(Setup::of(&upstream), &collector).start().await;
    let request = countermand::proto::longrunning::ListOperationsRequest {
        name: "enterprises/LC01/devices/d1".to_owned(),
        filter: "confidential".to_owned(),
        page_token: "secret".to_owned(),
        ..Default::default()
    };
    service.client().list_operations(request).await.unwrap();
    let spans = collector.calls(1).await;
    assert_eq!(
        of(only(&spans, Client, "GET"), "url.full"),
        format!("{}/v1/enterprises/LC01/devices/d1/operations", upstream.url())
    );
    let all = format!("{spans:?}");
    assert!(!all.contains("confidential") && !all.contains("secret") && !all.contains("Bearer"), "{all}");
}

#[tokio::test]
async fn a_wait_whose_caller_disconnects_is_cancelled() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.always_answers(Reply::json(200, &json!({"name": NAME})));
    let service = exporting(Setup::of(&upstream), &collector).start().await;
    let mut client = service.connect().await;
    let wait = tokio::spawn(async move {
        client.wait_operation(WaitOperationRequest { name: NAME.to_owned(), timeout: None }).await
    });
    upstream.wait_for_requests(1).await;
    wait.abort();
    let call = collector.span(|span| span.kind() == Server).await;
    assert_eq!(of(&call, "rpc.response.status_code"), "CANCELLED");
    assert!(!has_error(&call));
}

#[tokio::test]
async fn an_operation_from_the_cache_has_no_request() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.answers([Reply::json(200, &json!({"name": NAME, "done": true}))]);
    let service = exporting(Setup::of(&upstream), &collector).start().await;
    for _ in 0..2 {
        service.client().get_operation(GetOperationRequest { name: NAME.to_owned() }).await.unwrap();
    }
    assert_eq!(requests(&collector.calls(2).await).len(), 1);
}
