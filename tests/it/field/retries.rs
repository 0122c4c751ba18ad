//! Requests that cannot be built, and the retry budget.

use countermand::{
    http_client::{Authorities, HttpClient, Progress, ProxySettings},
    proto::longrunning::{ListOperationsRequest, operations_client::OperationsClient},
};
use futures_util::future::join_all;
use http::{HeaderMap, Method};
use serde_json::json;
use tonic::{Code, Status, transport::Channel};
use tonic_types::{FieldViolation, StatusExt};

use crate::support::{
    reply::Reply,
    service::{self, Service, Setup},
    upstream::Upstream,
    with_timeout,
};

const DEVICE: &str = "enterprises/LC01/devices/d1/operations";

const NAME: &str = "enterprises/LC01/devices/d1/operations/17";

async fn list(mut client: OperationsClient<Channel>, request: ListOperationsRequest) -> Result<(), Status> {
    with_timeout("a response", client.list_operations(request)).await.map(drop)
}

fn by_filter(filter: &str) -> ListOperationsRequest {
    ListOperationsRequest { name: DEVICE.to_owned(), filter: filter.to_owned(), ..Default::default() }
}

/// seanmonstar/reqwest #668 and #1934: a URL of over 65,534 bytes is no `Uri` of the crate `http`, and the request
/// fails when it is built. Such a request must not be retried.
#[tokio::test]
async fn a_list_that_is_too_long_for_a_url_is_invalid_and_nothing_is_sent() {
    let upstream = Upstream::start().await;
    upstream.always_answers_for_tokens(Reply::plain_error(503, "UNAVAILABLE", "No token."));
    let service = Setup::of(&upstream).start_without_token().await;
    let by_page_token =
        ListOperationsRequest { page_token: "=".repeat(22_000), ..by_filter("a short filter") };
    for (request, field) in [(by_filter(&"&".repeat(22_000)), "filter"), (by_page_token, "page_token")] {
        // The requests outnumber the retry budget.
        for _ in 0..200 {
            let status = list(service.client(), request.clone()).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            let violations = status.get_details_bad_request().unwrap().field_violations;
            let [FieldViolation { field: named, description, .. }] = &violations[..] else {
                panic!("{violations:?}")
            };
            assert_eq!(named, field);
            assert!(description.contains("65534"), "{description}");
        }
    }
    let log = service.audit_log();
    assert_eq!(log.len(), 400);
    assert!(log.iter().all(|line| line["code"] == "INVALID_ARGUMENT" && line["attempts"].is_null()));
    assert_eq!(upstream.requests().len(), 0);
}

/// The same reports: the HTTP client reports such a request as one that was not built, whatever the reason.
#[tokio::test]
async fn a_request_that_cannot_be_built_is_told_apart_from_a_lost_connection() {
    let base: url::Url = "http://127.0.0.1:1".parse().unwrap();
    let client = HttpClient::new(&base, &Authorities::public(), &ProxySettings::default()).unwrap();
    let url = base.join(&"a".repeat(65_534)).unwrap();
    let error = client.send(Method::GET, url, HeaderMap::new(), "").await.unwrap_err();
    assert_eq!(error.progress, Progress::NotBuilt, "{error}");
    let error = client.send(Method::GET, base, HeaderMap::new(), "").await.unwrap_err();
    assert_eq!(error.progress, Progress::NotConnected, "{error}");
}

/// The longest URL is sent.
#[tokio::test]
async fn a_list_whose_url_has_65534_bytes_is_sent() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let url = format!("{}/v1/{DEVICE}?filter=", upstream.url());
    let longest = 65_534 - url.len();
    upstream.answers([Reply::json(200, &json!({}))]);
    list(service.client(), by_filter(&"a".repeat(longest))).await.unwrap();
    let status = list(service.client(), by_filter(&"a".repeat(longest + 1))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(upstream.requests().len(), 1);
}

/// Sends this many lists at once. The upstream answers 503 to every attempt.
async fn fail_lists(service: &Service, upstream: &Upstream, count: usize) {
    upstream.always_answers(Reply::plain_error(503, "UNAVAILABLE", "Down."));
    let lists = (0..count).map(|_| list(service.client(), by_filter("")));
    for result in join_all(lists).await {
        assert_eq!(result.unwrap_err().code(), Code::Unavailable);
    }
}

/// Sends cancels one after the other, each of which meets one 503. Returns the number of successes.
async fn cancel_through_503s(
    mut client: OperationsClient<Channel>,
    upstream: &Upstream,
    count: usize,
) -> usize {
    let mut successes = 0;
    for id in 0..count {
        upstream.answers([Reply::plain_error(503, "UNAVAILABLE", "Busy."), Reply::ok()]);
        match service::cancel(&mut client, &format!("{NAME}{id}")).await {
            Ok(()) => successes += 1,
            // Takes the response that no attempt took.
            Err(_) => service::cancel(&mut client, NAME).await.unwrap(),
        }
    }
    successes
}

/// linkerd/linkerd #1185: "a single failing client or service can eat up the entire retry budget and allow no other
/// retries to take place". The lists are of an anonymous caller, and the cancels are of a user on the unix socket.
#[tokio::test]
async fn the_failing_reads_of_one_caller_leave_retries_for_the_cancels_of_another() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).unix().start().await;
    fail_lists(&service, &upstream, 200).await;
    // A fifth of 200, and the floor of 100, without the reserve for cancels.
    assert!(upstream.requests().len() <= 200 + 112, "{}", upstream.requests().len());
    assert_eq!(cancel_through_503s(service.connect_by_unix().await, &upstream, 20).await, 20);
}

/// Likewise, within one caller.
#[tokio::test]
async fn failing_reads_leave_retries_for_cancels() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    fail_lists(&service, &upstream, 200).await;
    assert_eq!(cancel_through_503s(service.client(), &upstream, 20).await, 20);
}

/// Likewise, among cancels. The caller that fails was alone, so it used the whole budget.
#[tokio::test]
async fn the_failing_cancels_of_one_caller_leave_retries_for_the_cancels_of_another() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).unix().start().await;
    upstream.always_answers(Reply::plain_error(503, "UNAVAILABLE", "Down."));
    let names: Vec<_> = (1000..1200).map(|id| format!("{NAME}{id}")).collect();
    for result in join_all(names.iter().map(|name| service.cancel(name))).await {
        assert_eq!(result.unwrap_err().code(), Code::Unavailable);
    }
    assert!(upstream.requests().len() <= 200 + 140, "{}", upstream.requests().len());
    assert_eq!(cancel_through_503s(service.connect_by_unix().await, &upstream, 20).await, 20);
}
