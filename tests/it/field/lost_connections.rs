//! Connections to the upstream that are lost without a sign.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::support::{
    metrics::{Scrape, scrape_until},
    relay::Relay,
    reply::Reply,
    service::{Service, Setup},
    tls::{Authority, H2, HTTP1},
    upstream::Upstream,
    with_timeout,
};

const NAME: &str = "enterprises/LC01/devices/d1/operations/17";

/// `upstream.timeout`. A request is overdue after a tenth of it, and a lost connection is detected within a third.
const TIMEOUT: &str = "6s";
const OVERDUE: Duration = Duration::from_millis(600);
const DETECTION: Duration = Duration::from_secs(2);

fn name(id: usize) -> String {
    format!("{NAME}{id}")
}

/// A service whose connections to an upstream lead through a relay. One of them is open and was used.
struct Fixture {
    service: Service,
    upstream: Upstream,
    relay: Relay,
    _tokens: Upstream,
}

impl Fixture {
    async fn start(protocol: &[u8]) -> Self {
        Self::start_with(protocol, |setup| setup.timeout(TIMEOUT)).await
    }

    /// As [`Self::start`], with the settings of `adjust`.
    async fn start_with(protocol: &[u8], adjust: impl FnOnce(Setup) -> Setup) -> Self {
        let (authority, tokens) = (Authority::new(), Upstream::start().await);
        let upstream = Upstream::start_tls(&authority, &[protocol]).await;
        let relay = Relay::start(&upstream).await;
        let setup = Setup::with_token_endpoint(&tokens, &relay.url).ca(&authority.pem());
        let service = adjust(setup).start().await;
        upstream.answers([Reply::ok()]);
        service.cancel(NAME).await.unwrap();
        assert_eq!(upstream.connections(), 1);
        Self { service, upstream, relay, _tokens: tokens }
    }

    /// Cancels the operation with this id, which must succeed. Returns the time that it took.
    async fn cancel(&self, id: usize) -> Duration {
        let start = Instant::now();
        self.service.cancel(&name(id)).await.unwrap();
        start.elapsed()
    }

    /// The code, attempts and upstream status of each audit line for the operation with this id.
    fn lines(&self, id: usize) -> Vec<Value> {
        let log = self.service.audit_log().into_iter().filter(|line| line["name"] == name(id));
        log.map(|line| json!([line["code"], line["attempts"], line["upstream_status"]])).collect()
    }

    /// Makes concurrent cancels fail until the retry budget is empty.
    async fn use_up_the_retry_budget(&self) {
        self.upstream.always_answers(Reply::plain_error(503, "UNAVAILABLE", "Down."));
        let names: Vec<_> = (1000..1200).map(name).collect();
        for result in join_all(names.iter().map(|name| self.service.cancel(name))).await {
            assert_eq!(result.unwrap_err().code(), Code::Unavailable);
        }
        self.upstream.always_answers(Reply::ok());
    }
}

/// JuliaWeb/HTTP.jl #1331, reactor/reactor-netty #4255 (HTTP/2) and oven-sh/bun #31894 (HTTP/1.1): a NAT drops the flow
/// of a pooled connection, and each request on it hangs until the timeout.
#[tokio::test]
async fn the_first_call_on_a_lost_connection_is_hedged_and_the_second_does_not_wait() {
    for protocol in [H2, HTTP1] {
        let fixture = Fixture::start(protocol).await;
        fixture.relay.lose_connections();
        fixture.upstream.answers([Reply::ok(), Reply::ok()]);
        let time = fixture.cancel(1).await;
        assert!((OVERDUE..DETECTION).contains(&time), "{time:?}");
        assert_eq!(fixture.lines(1), [json!(["OK", 2, 200])]);
        let page = Scrape::of(fixture.service.admin).await;
        assert_eq!(page.value("countermand_retries_total", &["kind=\"hedge\""]), 1.0);
        let requests = "http_client_request_duration_seconds_count";
        assert_eq!(page.value(requests, &["attempt=\"hedge\"", "http_response_status_code=\"200\""]), 1.0);
        assert_eq!(page.value(requests, &["attempt=\"1\"", "error_type=\"timeout\""]), 1.0);
        let time = fixture.cancel(2).await;
        assert!(time < OVERDUE, "{time:?}");
        assert_eq!(fixture.lines(2), [json!(["OK", 1, 200])]);
        assert_eq!(fixture.upstream.connections(), 2);
    }
}

/// Likewise, with calls that were in flight at the same time. They share the new connection.
#[tokio::test]
async fn concurrent_calls_on_a_lost_connection_are_hedged_over_one_connection() {
    let fixture = Fixture::start(H2).await;
    fixture.relay.lose_connections();
    fixture.upstream.always_answers(Reply::ok());
    for time in join_all((0..20).map(|id| fixture.cancel(id))).await {
        assert!((OVERDUE..DETECTION).contains(&time), "{time:?}");
    }
    assert_eq!(fixture.upstream.connections(), 2);
    assert_eq!(fixture.lines(19), [json!(["OK", 2, 200])]);
}

/// A hedge is a retry: envoyproxy/envoy #30205 has the load of retries that no budget counts. Without the hedge, PINGs
/// detect the loss of an HTTP/2 connection in a third of the timeout, and the next call has a new connection.
#[tokio::test]
async fn without_retry_budget_there_is_no_hedge() {
    // Longer than in the other tests, because the 200 failing calls take seconds on a busy machine.
    const TIMEOUT: &str = "15s";
    const OVERDUE: Duration = Duration::from_millis(1500);
    const DETECTION: Duration = Duration::from_secs(5);
    for (protocol, code) in [(H2, "UNAVAILABLE"), (HTTP1, "DEADLINE_EXCEEDED")] {
        let fixture = Fixture::start_with(protocol, |setup| setup.timeout(TIMEOUT)).await;
        fixture.use_up_the_retry_budget().await;
        let connections = fixture.upstream.connections();
        fixture.relay.lose_connections();
        let exhausted = async || {
            let page = Scrape::of(fixture.service.admin).await;
            page.value("countermand_retry_budget_exhausted_total", &[])
        };
        let exhausted_before = exhausted().await;
        let start = Instant::now();
        let status = fixture.service.cancel(&name(1)).await.unwrap_err();
        assert!(exhausted().await > exhausted_before);
        assert_eq!(fixture.lines(1), [json!([code, 1, null])], "{status:?}");
        assert_eq!(fixture.upstream.connections(), connections);
        if protocol == H2 {
            assert!(start.elapsed() < DETECTION + OVERDUE, "{:?}", start.elapsed());
            assert!(fixture.cancel(2).await < OVERDUE);
        }
    }
}

/// The turn of a hedge can come long after the connection has answered other requests.
#[tokio::test]
async fn a_hedge_is_not_sent_when_its_connection_answers_before_its_turn() {
    // After the three queries of the burst, the next turn is 10 seconds later. A request is overdue after 2 seconds.
    const QUOTA: &str = "limit = 4\nperiod = \"10s\"\nburst = 3";
    let fixture = Fixture::start_with(H2, |setup| setup.timeout("20s").quota(QUOTA)).await;
    let ((slow, slow_gate), (other, other_gate)) = (Reply::ok().held(), Reply::ok().held());
    fixture.upstream.answers([slow]);
    let hedge_is_queued = async |is_queued: bool| {
        scrape_until("the queue of the quota", fixture.service.admin, |page| {
            (page.value("countermand_quota_queued_queries", &["class=\"cancel\""]) > 0.0) == is_queued
        })
        .await;
    };
    let others = async {
        fixture.upstream.wait_for_requests(2).await;
        fixture.upstream.answers([other]);
        let open = async {
            fixture.upstream.wait_for_requests(3).await;
            hedge_is_queued(true).await;
            other_gate.open();
        };
        tokio::join!(fixture.cancel(2), open);
        hedge_is_queued(false).await;
        // A hedge would arrive within this time.
        sleep(OVERDUE).await;
        slow_gate.open();
    };
    tokio::join!(fixture.cancel(1), others);
    assert_eq!(fixture.lines(1), [json!(["OK", 1, 200])]);
    assert_eq!(fixture.upstream.requests().len(), 3);
}

/// grpc/proposal #12 (gRFC A6) throttles hedges, because they add load to a slow server. Here, other responses on the
/// connection show that it works.
#[tokio::test]
async fn a_slow_call_on_a_connection_with_other_responses_is_not_hedged() {
    let fixture = Fixture::start(H2).await;
    let (slow, gate) = Reply::ok().held();
    fixture.upstream.answers([slow]);
    fixture.upstream.always_answers(Reply::ok());
    let others = async {
        fixture.upstream.wait_for_requests(2).await;
        let start = Instant::now();
        while start.elapsed() < 3 * OVERDUE {
            sleep(OVERDUE / 10).await;
            fixture.cancel(2).await;
        }
        gate.open();
    };
    let (time, ()) = tokio::join!(fixture.cancel(1), others);
    assert!(time >= 3 * OVERDUE);
    assert_eq!(fixture.lines(1), [json!(["OK", 1, 200])]);
    assert_eq!(fixture.upstream.connections(), 1);
}

/// Found by a review of the pools: with HTTP/1.1, one slow call was hedged, and its hedge replaced all warm connections.
#[tokio::test]
async fn a_hedge_over_http_1_does_not_replace_connections_that_respond() {
    let fixture = Fixture::start(HTTP1).await;
    // Calls that are in flight at the same time use one connection each.
    let concurrent_calls = async |ids: std::ops::Range<usize>| {
        let received = fixture.upstream.requests().len() + ids.len();
        let (reply, gate) = Reply::ok().held();
        fixture.upstream.always_answers(reply);
        let open = async {
            fixture.upstream.wait_for_requests(received).await;
            gate.open();
        };
        tokio::join!(join_all(ids.map(|id| fixture.cancel(id))), open);
    };
    concurrent_calls(0..3).await;
    assert_eq!(fixture.upstream.connections(), 3);

    let (slow, _gate) = Reply::ok().held();
    fixture.upstream.answers([slow]);
    fixture.upstream.always_answers(Reply::ok());
    let another = async {
        fixture.upstream.wait_for_requests(5).await;
        fixture.cancel(4).await
    };
    let (time, _) = tokio::join!(fixture.cancel(3), another);
    assert!(time >= OVERDUE, "{time:?}");
    assert_eq!(fixture.lines(3), [json!(["OK", 2, 200])]);
    assert_eq!(fixture.upstream.connections(), 4);

    concurrent_calls(5..7).await;
    assert_eq!(fixture.upstream.connections(), 4, "both calls used warm connections");
}

/// Likewise, when every call is slow.
#[tokio::test]
async fn the_hedges_of_a_slow_upstream_stay_within_the_retry_budget() {
    let fixture = Fixture::start(H2).await;
    for batch in 0..3 {
        let (slow, gate) = Reply::ok().held();
        fixture.upstream.always_answers(slow);
        let calls = join_all((0..100).map(|id| fixture.cancel(100 * batch + id)));
        let open = async {
            sleep(2 * OVERDUE).await;
            gate.open();
        };
        tokio::join!(calls, open);
    }
    let requests = fixture.upstream.requests().len();
    // A fifth of the 301 calls and the floor of 100 as hedges.
    assert!(requests > 301 && requests <= 301 + 160, "{requests}");
}

/// The losing request must not change the record of the call.
#[tokio::test]
async fn the_late_response_to_the_first_request_is_dropped() {
    for protocol in [H2, HTTP1] {
        let fixture = Fixture::start(protocol).await;
        let (late, gate) = Reply::plain_error(404, "NOT_FOUND", "Late.").held();
        fixture.upstream.answers([late, Reply::ok(), Reply::ok()]);
        let time = fixture.cancel(1).await;
        assert!((OVERDUE..DETECTION).contains(&time), "{time:?}");
        gate.open();
        fixture.cancel(2).await;
        assert_eq!(fixture.lines(1), [json!(["OK", 2, 200])]);
        assert_eq!(fixture.service.audit_log().len(), 3);
    }
}

/// A first request that is only slow can win.
#[tokio::test]
async fn the_response_to_the_first_request_wins_when_the_hedge_is_slower() {
    let fixture = Fixture::start(H2).await;
    let (first, gate) = Reply::plain_error(404, "NOT_FOUND", "First.").held();
    fixture.upstream.answers([first, Reply::hanging()]);
    let open = async {
        fixture.upstream.wait_for_requests(3).await;
        gate.open();
    };
    let name = name(1);
    let (result, ()) = tokio::join!(fixture.service.cancel(&name), open);
    assert_eq!(result.unwrap_err().message(), "First.");
    assert_eq!(fixture.lines(1), [json!(["NOT_FOUND", 2, 404])]);
}

/// A caller has no use of a request that is sent after its deadline.
#[tokio::test]
async fn no_hedge_is_sent_after_the_callers_deadline() {
    let fixture = Fixture::start(H2).await;
    fixture.relay.lose_connections();
    let response = fixture.service.wire().await.cancel(&name(1), &[("grpc-timeout", "300m")]).await;
    assert_eq!(response.code(), Code::DeadlineExceeded);
    assert_eq!(fixture.lines(1), [json!(["DEADLINE_EXCEEDED", 1, null])]);
    sleep(2 * OVERDUE).await;
    assert_eq!(fixture.upstream.requests().len(), 1);
}

/// A cancel that was sent has its true outcome in the audit log, also when its caller hangs up before the hedge.
#[tokio::test]
async fn a_cancel_whose_caller_hangs_up_is_hedged() {
    let fixture = Fixture::start(H2).await;
    fixture.relay.lose_connections();
    fixture.upstream.answers([Reply::ok()]);
    let wire = fixture.service.wire().await;
    let started = wire.start(&name(1), &[]).await;
    wire.wait_until_received().await;
    sleep(OVERDUE / 3).await;
    drop(started);
    fixture.upstream.wait_for_requests(2).await;
    with_timeout("the audit line", async {
        while fixture.lines(1).is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let [line] = &fixture.lines(1)[..] else { panic!("one line") };
    assert_eq!((&line[1], &line[2]), (&json!(2), &json!(200)));
}
