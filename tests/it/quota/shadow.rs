//! Shadow mode: queries are sent at once, and the decisions are recorded.

use futures_util::future::join_all;
use tonic::Code;

use super::{ONE_IN_20_SECONDS, SECOND, decisions, get, name, pending, turns};
use crate::support::{reply::Reply, service::Setup, upstream::Upstream};

#[tokio::test]
async fn every_query_is_sent_at_once_and_its_decision_is_counted() {
    let upstream = Upstream::start().await;
    upstream.always_answers(pending());
    let quota = format!("{ONE_IN_20_SECONDS}\nmode = \"shadow\"");
    let service = Setup::of(&upstream).quota(&quota).start().await;
    let wire = service.wire().await;
    for status in join_all((0..20).map(|id| get(&wire, id, 10 * SECOND))).await {
        assert_eq!(status.code(), Code::Ok, "{status:?}");
    }
    upstream.always_answers(Reply::ok());
    for id in 0..20 {
        service.cancel(&name(id)).await.unwrap();
    }
    assert_eq!(upstream.requests().len(), 40);
    assert_eq!(turns(&service, "read").await, 2.0);
    assert_eq!(decisions(&service, "read", "refused").await, 18.0);
}

#[tokio::test]
async fn a_refusal_by_google_holds_nothing() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::plain_error(429, "RESOURCE_EXHAUSTED", "No."), pending()]);
    let service = Setup::of(&upstream).quota("mode = \"shadow\"").start().await;
    let wire = service.wire().await;
    assert_eq!(get(&wire, 1, 10 * SECOND).await.code(), Code::ResourceExhausted);
    assert_eq!(get(&wire, 2, 10 * SECOND).await.code(), Code::Ok);
    assert_eq!(decisions(&service, "read", "refused").await, 1.0);
}
