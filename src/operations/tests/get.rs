use futures_util::future::join_all;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_one_query() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    let name = name(1, 1);
    let results = join_all((0..1000).map(|_| get(&service, &name))).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|operation| !operation.done)));
    assert_eq!(api.counts(), Counts { gets: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_state_is_at_most_an_interval_old() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    for (after, gets) in [(0, 1), (5, 1), (6, 2)] {
        sleep(after * SECOND / 10).await;
        get(&service, &name(1, 1)).await.expect("answered");
        assert_eq!(api.counts().gets, gets, "after {after} tenths of a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_operation_is_queried_once() {
    let api = FakeAmapi::default();
    api.finish(&name(1, 1));
    let (service, _serving) = api.serve();
    for _ in 0..10 {
        assert!(get(&service, &name(1, 1)).await.expect("answered").done);
        sleep(300 * SECOND).await;
    }
    assert_eq!(api.counts().gets, 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_not_cached() {
    let api = FakeAmapi::default();
    let (service, _serving) = api.serve();
    let error = get(&service, &name(1, 1)).await.expect_err("unknown");
    assert_eq!(error.code(), Code::NotFound);
    api.issue(&name(1, 1));
    assert!(get(&service, &name(1, 1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_get_after_a_cancel_queries_google() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    assert!(!get(&service, &name(1, 1)).await.expect("answered").done);
    cancel(&service, &name(1, 1)).await.expect("cancelled");
    assert!(is_cancelled(&get(&service, &name(1, 1)).await.expect("answered")));
    assert_eq!(api.counts(), Counts { cancels: 1, gets: 2, lists: 0, devices: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_get_after_a_cancel_does_not_join_an_earlier_get() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    let before = {
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            // In flight when the cancel completes, 0.1 s after the start.
            sleep(SECOND / 20).await;
            get(&service, &name(1, 1)).await
        })
    };
    // The fake cancels at once, so only the order of the requests distinguishes the two gets.
    cancel(&service, &name(1, 1)).await.expect("cancelled");
    let after = get(&service, &name(1, 1)).await.expect("answered");
    assert!(is_cancelled(&after));
    before.await.expect("no panic").expect("answered");
    assert_eq!(api.counts().gets, 2);
}
