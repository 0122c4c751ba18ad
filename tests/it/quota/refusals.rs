//! Refusals by Google for the quota: they hold reads and polls, and cancels go on as probes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt;

use super::{PLENTY, SECOND, assert_over_budget, decisions, get, name, pending, wait};
use crate::support::{
    details::GOOGLE_DOMAIN,
    grpc::Wire,
    reply::Reply,
    service::{Service, Setup},
    upstream::Upstream,
};

/// The time between two cancels that probe a hold.
const PROBE: Duration = Duration::from_secs(5);

async fn start(upstream: &Upstream) -> (Service, Wire) {
    let service = Setup::of(upstream).quota(PLENTY).start().await;
    let wire = service.wire().await;
    (service, wire)
}

/// A 403 with a reason of the older form.
fn forbidden(reason: &str, details: &Value) -> Reply {
    let errors = json!([{"reason": reason, "domain": "usageLimits"}]);
    let error = json!({"code": 403, "message": "No.", "status": "PERMISSION_DENIED", "errors": errors, "details": details});
    Reply::json(403, &json!({ "error": error }))
}

#[tokio::test]
async fn a_refusal_is_passed_on_and_holds_reads_until_a_cancel_succeeds() {
    let refusals = [
        Reply::plain_error(429, "RESOURCE_EXHAUSTED", "No."),
        forbidden("userRateLimitExceeded", &json!([])),
    ];
    futures_util::future::join_all(refusals.map(|refusal| async {
        let upstream = Upstream::start().await;
        let (service, wire) = start(&upstream).await;
        upstream.answers([refusal]);
        let refused = get(&wire, 1, 10 * SECOND).await;
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "No."));
        assert_eq!(refused.get_details_error_info().unwrap().domain, GOOGLE_DOMAIN);
        assert_over_budget(&get(&wire, 2, 20 * SECOND).await, 40 * SECOND..=60 * SECOND);
        assert_eq!(upstream.requests().len(), 1, "Google's refusal is not retried");

        upstream.answers([Reply::ok(), pending()]);
        service.cancel(&name(1)).await.unwrap();
        let immediate = decisions(&service, "cancel", "immediate").await;
        assert_eq!(immediate, 1.0, "the first probe does not wait");
        assert_eq!(
            get(&wire, 2, 10 * SECOND).await.code(),
            Code::Ok,
            "the success of the cancel ends the hold"
        );
    }))
    .await;
}

#[tokio::test]
async fn a_cancel_that_google_refuses_extends_the_hold() {
    let upstream = Upstream::start().await;
    let (service, wire) = start(&upstream).await;
    let refusal = || Reply::plain_error(429, "RESOURCE_EXHAUSTED", "No.");
    upstream.answers([refusal(), refusal()]);
    assert_eq!(get(&wire, 1, 10 * SECOND).await.code(), Code::ResourceExhausted);
    let probed = Instant::now();
    let status = service.cancel(&name(1)).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().domain, GOOGLE_DOMAIN);
    assert_over_budget(&get(&wire, 2, SECOND).await, 40 * SECOND..=60 * SECOND);

    upstream.answers([Reply::ok()]);
    service.cancel(&name(2)).await.unwrap();
    assert!(probed.elapsed() > PROBE - SECOND, "the second probe waits: {:?}", probed.elapsed());
}

#[tokio::test]
async fn the_hold_has_the_length_that_google_asks_for() {
    let retry_info = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "8s"}]);
    let refusals = [
        Reply::plain_error(429, "RESOURCE_EXHAUSTED", "No.").header("retry-after", "8"),
        forbidden("quotaExceeded", &retry_info),
        Reply::new(429, "text/html", "No.").header("retry-after", "8"),
    ];
    futures_util::future::join_all(refusals.map(|refusal| async {
        let upstream = Upstream::start().await;
        let (_service, wire) = start(&upstream).await;
        upstream.answers([refusal, pending()]);
        let held = Instant::now();
        assert_eq!(get(&wire, 1, 10 * SECOND).await.code(), Code::ResourceExhausted);
        assert_over_budget(&get(&wire, 2, SECOND).await, Duration::ZERO..=8 * SECOND);
        assert_eq!(get(&wire, 2, 25 * SECOND).await.code(), Code::Ok);
        assert!(held.elapsed() >= 8 * SECOND, "{:?}", held.elapsed());
    }))
    .await;
}

#[tokio::test]
async fn another_error_of_google_holds_nothing() {
    let upstream = Upstream::start().await;
    let (_service, wire) = start(&upstream).await;
    upstream.answers([
        forbidden("forbidden", &json!([])),
        Reply::plain_error(404, "NOT_FOUND", "Gone."),
        Reply::plain_error(500, "INTERNAL", "Broken."),
        pending(),
    ]);
    for code in [Code::PermissionDenied, Code::NotFound, Code::Internal, Code::Ok] {
        assert_eq!(get(&wire, 1, 10 * SECOND).await.code(), code);
    }
}

#[tokio::test]
async fn a_hold_fails_no_wait_whose_state_is_known() {
    let upstream = Upstream::start().await;
    let (_service, wire) = start(&upstream).await;
    upstream.answers([pending(), Reply::plain_error(429, "RESOURCE_EXHAUSTED", "No.")]);
    let start = Instant::now();
    assert_eq!(wait(&wire, 1, 4 * SECOND).await.code(), Code::Ok);
    assert!(start.elapsed() >= 4 * SECOND);
    assert_eq!(upstream.requests().len(), 2, "a get and the poll that Google refused");
}
