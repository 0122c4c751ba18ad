//! The metrics of calls.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countermand::proto::longrunning::{GetOperationRequest, WaitOperationRequest};
use prost::Message;
use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        grpc::{GET, WAIT, by_name},
        http_page,
        metrics::{ACCEPT_OPENMETRICS, Scrape, scrape_until},
        reply::Reply,
        service::{Service, Setup},
        tls::Authority,
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

/// The texts of a call. None of them may be in the metrics.
const SECRET_NAME: &str = "enterprises/LCsecretE/devices/secretD/operations/secretO";
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

async fn scrape(service: &Service) -> Scrape {
    Scrape::of(service.admin).await
}

#[tokio::test]
async fn a_call_is_counted_by_its_method_and_its_code() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok(), Reply::plain_error(404, "NOT_FOUND", "Gone.")]);
    let policy = "permit (principal, action, resource);\n\
                  forbid (principal, action, resource in Device::\"LC01/d2\");";
    let service = Setup::of(&upstream).policy(policy).start().await;
    let first = scrape(&service).await;
    assert_eq!(first.calls("CancelOperation", "OK"), 0.0);

    service.cancel(NAME).await.unwrap();
    assert_eq!(service.cancel(NAME).await.unwrap_err().code(), Code::NotFound);
    let denied = service.cancel("enterprises/LC01/devices/d2/operations/17").await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let invalid = service.cancel("operations/17").await.unwrap_err();
    assert_eq!(invalid.code(), Code::InvalidArgument);
    let wire = service.wire().await;
    for unknown in ["/google.longrunning.Operations/SecretMethod", "/secret.Service/SecretMethod"] {
        let response = wire.start_raw(unknown, &[], &by_name(NAME)).await.response().await;
        assert_eq!(response.code(), Code::Unimplemented);
    }

    let page = scrape(&service).await;
    for code in ["OK", "NOT_FOUND", "PERMISSION_DENIED", "INVALID_ARGUMENT"] {
        assert_eq!(page.calls("CancelOperation", code), 1.0, "{code}");
    }
    let bucket = "rpc_server_call_duration_seconds_bucket";
    let not_found = [
        "rpc_response_status_code=\"NOT_FOUND\"",
        "le=\"+Inf\"",
        "error_type=\"\"",
        "rpc_system_name=\"grpc\"",
    ];
    assert_eq!(page.value(bucket, &not_found), 1.0, "NOT_FOUND is not an error of the server");
    let unimplemented = ["rpc_method=\"_OTHER\"", "error_type=\"UNIMPLEMENTED\""];
    assert_eq!(page.value("rpc_server_call_duration_seconds_count", &unimplemented), 2.0);
    for (reason, count) in [
        ("NOT_PERMITTED", 1.0),
        ("INVALID_NAME", 1.0),
        ("UNIMPLEMENTED", 2.0),
        ("OVERLOADED", 0.0),
        ("_OTHER", 0.0),
    ] {
        let reason = format!("reason=\"{reason}\"");
        assert_eq!(page.value("countermand_errors_total", &[&reason]), count, "{reason}");
    }
    let cancel = "action=\"cancel\"";
    assert_eq!(page.value("countermand_policy_decisions_total", &[cancel, "decision=\"allow\""]), 2.0);
    assert_eq!(page.value("countermand_policy_decisions_total", &[cancel, "decision=\"deny\""]), 1.0);
    assert_eq!(page.value("countermand_policy_cache_misses_total", &[]), 2.0);
    assert_eq!(page.value("countermand_policy_cache_hits_total", &[]), 1.0);
    assert_eq!(page.value("countermand_connections_total", &["transport=\"tcp\""]), 2.0);
    assert_eq!(page.value("countermand_connections", &["transport=\"tcp\""]), 2.0);
    // The calls of unknown methods have no line.
    assert_eq!(page.value("countermand_audit_batch_lines_sum", &[]), 4.0);
    assert_eq!(page.value("countermand_audit_queued_lines", &[]), 0.0);
    assert_eq!(page.value("countermand_ready", &[]), 1.0);
}

#[tokio::test]
async fn a_policy_in_shadow_mode_counts_the_calls_that_it_would_deny() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let policy = "forbid (principal, action, resource);";
    let service =
        Setup::of(&upstream).policy(policy).variable("COUNTERMAND_POLICY_MODE", "shadow").start().await;
    service.cancel(NAME).await.unwrap();
    let page = scrape(&service).await;
    for (decision, count) in [("allow", 0.0), ("deny", 0.0), ("would_deny", 1.0)] {
        let labels = ["action=\"cancel\"", &format!("decision=\"{decision}\"")];
        assert_eq!(page.value("countermand_policy_decisions_total", &labels), count, "{decision}");
    }
}

#[tokio::test]
async fn a_call_of_a_disconnected_caller_is_cancelled() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok, Reply::hanging()]);
    let service = Setup::of(&upstream).start().await;
    let in_flight = |page: &Scrape, method: &str| {
        let method = format!("rpc_method=\"google.longrunning.Operations/{method}\"");
        page.value("countermand_calls_in_flight", &[&method])
    };

    let wire = service.wire().await;
    let cancel = wire.start(NAME, &[]).await;
    upstream.wait_for_requests(1).await;
    let wait = wire.start_raw(WAIT, &[], &by_name("enterprises/LC01/devices/d1/operations/18")).await;
    upstream.wait_for_requests(2).await;
    let page = scrape(&service).await;
    assert_eq!((in_flight(&page, "CancelOperation"), in_flight(&page, "WaitOperation")), (1.0, 1.0));
    assert_eq!(page.calls("CancelOperation", "CANCELLED"), 0.0);

    drop((cancel, wait));
    let page = scrape_until("a cancelled call", service.admin, |page| {
        page.calls("CancelOperation", "CANCELLED") == 1.0
            && page
                .find("countermand_wait_duration_seconds_count", &["rpc_response_status_code=\"CANCELLED\""])
                == Some(1.0)
    })
    .await;
    assert_eq!((in_flight(&page, "CancelOperation"), in_flight(&page, "WaitOperation")), (0.0, 0.0));
    gate.open();
    service.audit_line("CancelOperation", "OK").await;
    let page = scrape(&service).await;
    assert_eq!(page.calls("CancelOperation", "OK"), 0.0, "the call is counted once");
    assert_eq!(page.calls("CancelOperation", "CANCELLED"), 1.0);
}

#[tokio::test]
async fn an_overloaded_call_is_counted_with_its_reason() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).max_concurrent_calls(1).start().await;
    let wire = service.wire().await;
    let first = wire.start(NAME, &[]).await;
    upstream.wait_for_requests(1).await;
    assert_eq!(service.cancel(NAME).await.unwrap_err().code(), Code::Unavailable);
    let page = scrape(&service).await;
    assert_eq!(page.value("countermand_errors_total", &["reason=\"OVERLOADED\""]), 1.0);
    let unavailable = ["rpc_response_status_code=\"UNAVAILABLE\"", "error_type=\"UNAVAILABLE\""];
    assert_eq!(page.value("rpc_server_call_duration_seconds_count", &unavailable), 1.0);
    gate.open();
    assert_eq!(first.response().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_wait_has_its_own_histogram_and_the_cache_and_the_pollers_are_counted() {
    let upstream = Upstream::start().await;
    let operation = |done| Reply::json(200, &json!({"name": NAME, "done": done}));
    let (finished, gate) = operation(true).held();
    upstream.answers([operation(false), finished]);
    let service = Setup::of(&upstream).variable("COUNTERMAND_POLLING_MIN_INTERVAL", "10ms").start().await;
    let wire = service.wire().await;
    let request = WaitOperationRequest { name: NAME.to_owned(), timeout: None }.encode_to_vec();
    let wait = wire.start_raw(WAIT, &[], &request).await;
    upstream.wait_for_requests(2).await;
    let page = scrape(&service).await;
    assert_eq!(page.value("countermand_pollers", &[]), 1.0);
    assert_eq!(page.value("countermand_waiters", &[]), 1.0);

    gate.open();
    assert_eq!(wait.response().await.code(), Code::Ok);
    let get = GetOperationRequest { name: NAME.to_owned() }.encode_to_vec();
    assert_eq!(wire.start_raw(GET, &[], &get).await.response().await.code(), Code::Ok);
    let page = scrape_until("the end of the poller", service.admin, |page| {
        page.value("countermand_pollers", &[]) == 0.0
    })
    .await;
    assert_eq!(
        page.value("countermand_wait_duration_seconds_count", &["rpc_response_status_code=\"OK\""]),
        1.0
    );
    assert_eq!(page.calls("WaitOperation", "OK"), 0.0);
    assert_eq!(page.calls("GetOperation", "OK"), 1.0);
    assert_eq!(page.value("countermand_cache_hits_total", &[]), 1.0);
    assert_eq!(page.value("countermand_cache_entries", &[]), 1.0);
    assert_eq!(page.value("countermand_waiters", &[]), 0.0);
    assert_eq!(page.value("countermand_polls_total", &["outcome=\"success\""]), 1.0);
    assert_eq!(page.value("countermand_polls_total", &["outcome=\"failure\""]), 0.0);
}

#[tokio::test]
async fn shared_calls_are_counted() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    let calls = [wire.start(NAME, &[]).await, wire.start(NAME, &[]).await, wire.start(NAME, &[]).await];
    wire.wait_until_received().await;
    gate.open();
    for call in calls {
        assert_eq!(call.response().await.code(), Code::Ok);
    }
    let page = scrape(&service).await;
    let method = "rpc_method=\"google.longrunning.Operations/CancelOperation\"";
    assert_eq!(page.value("countermand_shared_calls_total", &[method]), 2.0);
    assert_eq!(page.calls("CancelOperation", "OK"), 3.0);
}

#[tokio::test]
async fn the_state_of_a_token_is_in_the_metrics() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let page = scrape(&service).await;
    let credential = "credential=\"default\"";
    let fetched = page.value("countermand_token_fetched_timestamp_seconds", &[credential]);
    let expiry = page.value("countermand_token_expiry_timestamp_seconds", &[credential]);
    assert!((now - 60.0..=now).contains(&fetched), "{fetched} at {now}");
    assert!((60.0..=3600.0).contains(&(expiry - fetched)), "{expiry} of {fetched}");
    assert_eq!(page.value("countermand_credential_usable", &[credential]), 1.0);
    for (outcome, count) in [("success", 1.0), ("failure", 0.0)] {
        let outcome = format!("outcome=\"{outcome}\"");
        assert_eq!(page.value("countermand_token_refreshes_total", &[credential, &outcome]), count);
    }
}

#[tokio::test]
async fn openmetrics_has_exemplars_and_no_format_has_a_text_of_a_call() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok(), Reply::plain_error(403, "PERMISSION_DENIED", "secret-message")]);
    let service = Setup::of(&upstream).start().await;
    let wire = service.wire().await;
    let traceparent = format!("00-{TRACE_ID}-b7ad6b7169203331-01");
    let headers = [("traceparent", traceparent.as_str()), ("user-agent", "secret-agent")];
    assert_eq!(wire.cancel(SECRET_NAME, &headers).await.code(), Code::Ok);
    assert_eq!(wire.cancel(SECRET_NAME, &headers).await.code(), Code::PermissionDenied);
    let response =
        wire.start_raw("/google.longrunning.Operations/SecretMethod", &[], &by_name(SECRET_NAME)).await;
    assert_eq!(response.response().await.code(), Code::Unimplemented);
    // No tracing backend has these traces.
    let unsampled = format!("00-{}-b7ad6b7169203331-02", "1".repeat(32));
    for headers in [&[][..], &[("traceparent", unsampled.as_str())]] {
        assert_eq!(wire.cancel("operations/17", headers).await.code(), Code::InvalidArgument);
    }

    let plain = scrape(&service).await.text;
    let (status, head, open) = http_page::request(service.admin, "GET", "/metrics", ACCEPT_OPENMETRICS).await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(open.ends_with("\n# EOF\n"));
    let exemplar = format!(" # {{trace_id=\"{TRACE_ID}\"}} ");
    let buckets = open.lines().filter(|line| line.contains(&exemplar));
    assert!(buckets.clone().count() >= 2, "{open}");
    assert!(
        buckets.clone().all(|line| line.starts_with("rpc_server_call_duration_seconds_bucket{")),
        "{open}"
    );
    assert_eq!(open.matches("trace_id=").count(), buckets.count(), "{open}");
    assert!(!plain.contains("trace_id="));
    for text in [&plain, &open] {
        for secret in ["secret", "Secret", "LC", "enterprises", "127.0.0.1"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[tokio::test]
async fn the_process_is_measured() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let page = scrape(&service).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let at_least = |name, least| assert!(page.value(name, &[]) >= least, "{name}: {}", page.value(name, &[]));
    at_least("process_resident_memory_bytes", 1e6);
    at_least("process_virtual_memory_bytes", page.value("process_resident_memory_bytes", &[]));
    at_least("process_open_fds", 3.0);
    at_least("process_max_fds", page.value("process_open_fds", &[]));
    at_least("process_threads", 1.0);
    at_least("process_start_time_seconds", now - 600.0);
    assert!(page.value("process_start_time_seconds", &[]) <= now);
    let cpu = page.value("process_cpu_seconds_total", &[]);
    with_timeout("CPU time to pass", async {
        while Scrape::of(service.admin).await.value("process_cpu_seconds_total", &[]) <= cpu {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(page.value("countermand_build_info", &[&version]), 1.0);
}

#[tokio::test]
async fn each_request_to_the_upstream_is_counted_by_its_attempt_and_its_outcome() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::new(503, "text/html", "<html>"), Reply::ok(), Reply::new(302, "text/html", "")]);
    let service = Setup::of(&upstream).start().await;
    service.cancel(NAME).await.unwrap();
    service.cancel(NAME).await.unwrap_err();
    let page = scrape(&service).await;
    let count = |attempt: &str, status: &str, error: &str| {
        let (attempt, status) =
            (format!("attempt=\"{attempt}\""), format!("http_response_status_code=\"{status}\""));
        let labels = ["http_request_method=\"POST\"", &attempt, &status, &format!("error_type=\"{error}\"")];
        page.find("http_client_request_duration_seconds_count", &labels)
    };
    assert_eq!(count("1", "503", "503"), Some(1.0));
    assert_eq!(count("2", "200", ""), Some(1.0));
    assert_eq!(count("1", "302", ""), Some(1.0));
    assert_eq!(page.value("countermand_retries_total", &["kind=\"retry\""]), 1.0);
    assert_eq!(page.value("countermand_retries_total", &["kind=\"hedge\""]), 0.0);
    assert_eq!(page.value("countermand_retry_budget_exhausted_total", &[]), 0.0);
    assert_eq!(page.value("countermand_retry_budget_available", &[]), 99.0);
    assert_eq!(page.value("countermand_upstream_queued_calls", &[]), 0.0);
}

#[tokio::test]
async fn a_request_without_a_response_is_counted_by_its_failure() {
    let tokens = Upstream::start().await;
    let failures = async |url: &str, error: &str| {
        let service = Setup::with_token_endpoint(&tokens, url).timeout("300ms").start().await;
        service.cancel(NAME).await.unwrap_err();
        let labels = ["http_response_status_code=\"\"", &format!("error_type=\"{error}\""), "attempt=\"1\""];
        let counted = |page: &Scrape| page.find("http_client_request_duration_seconds_count", &labels);
        let page = scrape_until("a failed request", service.admin, |page| counted(page).is_some()).await;
        counted(&page)
    };
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // The retries have the next numbers, although no request reached a connection.
    assert_eq!(failures(&format!("http://{unused}"), "connect").await, Some(1.0));
    let silent = Upstream::start().await;
    silent.always_answers(Reply::hanging());
    assert_eq!(failures(silent.url(), "timeout").await, Some(1.0));
}

#[tokio::test]
async fn connections_are_counted_by_transport_and_the_certificate_has_its_expiry() {
    let upstream = Upstream::start().await;
    let expiry = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let pair = Authority::new().server_until(expiry);
    let service = Setup::of(&upstream).tls(&pair, None).unix().start().await;
    let unix = service.wire_by_unix().await;
    let silent = tokio::net::TcpStream::connect(service.address).await.unwrap();
    let open = |page: &Scrape, transport: &str| {
        page.value("countermand_connections", &[&format!("transport=\"{transport}\"")])
    };
    let page = scrape_until("both connections", service.admin, |page| {
        (open(page, "tls"), open(page, "unix")) == (1.0, 1.0)
    })
    .await;
    assert_eq!(open(&page, "tcp"), 0.0);
    let certificate = ["certificate=\"server\""];
    assert_eq!(page.value("countermand_certificate_expiry_timestamp_seconds", &certificate), 4e9);
    drop(silent);
    unix.disconnect();
    let page = scrape_until("the end of the connections", service.admin, |page| {
        (open(page, "tls"), open(page, "unix")) == (0.0, 0.0)
    })
    .await;
    assert_eq!(page.value("countermand_connections_total", &["transport=\"tls\""]), 1.0);
}
