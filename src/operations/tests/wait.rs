use std::time::Duration;

use futures_util::future::join_all;

use tonic_types::StatusExt;

use super::*;

/// The number of gets and lists.
fn queries(api: &FakeAmapi) -> usize {
    let Counts { cancels: _, gets, lists, devices: _ } = api.counts();
    gets + lists
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_the_operation_does() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    let finish = async {
        sleep(5 * SECOND).await;
        api.finish(&name(1, 1));
    };
    let start = Instant::now();
    let name = name(1, 1);
    let (result, ()) = tokio::join!(wait(&service, &name, 600), finish);
    assert!(result.expect("answered").done);
    assert!(start.elapsed() >= 5 * SECOND && start.elapsed() <= 12 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_finished_operation_is_returned_at_once() {
    let api = FakeAmapi::default();
    api.finish(&name(1, 1));
    let (service, _serving) = api.serve();
    let start = Instant::now();
    assert!(wait(&service, &name(1, 1), 600).await.expect("answered").done);
    assert!(start.elapsed() < SECOND);
    assert_eq!(queries(&api), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_times_out_returns_the_latest_state() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    for (seconds, min, max) in [(0, 0, 1), (30, 30, 30)] {
        let start = Instant::now();
        assert!(!wait(&service, &name(1, 1), seconds).await.expect("answered").done);
        assert!((min * SECOND..=max * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_cost_as_many_queries_as_one_waiter() {
    let mut costs = Vec::new();
    for waiters in [1, 1000] {
        let api = FakeAmapi::default();
        api.issue(&name(1, 1));
        let (service, _serving) = api.serve();
        let name = name(1, 1);
        let results = join_all((0..waiters).map(|_| wait(&service, &name, 300))).await;
        assert!(results.iter().all(Result::is_ok));
        costs.push(queries(&api));
    }
    // Jitter may add or remove a query in five minutes.
    assert!(costs[0].abs_diff(costs[1]) <= 2, "{costs:?}");
    assert!(costs[1] <= 25, "{costs:?}: the interval grows to 20 s");
}

#[tokio::test(start_paused = true)]
async fn several_operations_of_a_device_are_polled_by_one_list() {
    let api = FakeAmapi::default();
    let (service, _serving) = api.serve();
    let names: Vec<_> = (1..=10).flat_map(|device| (1..=10).map(move |id| name(device, id))).collect();
    names.iter().for_each(|name| api.issue(name));
    let waits = names.iter().map(|name| wait(&service, name, 300));
    let at_max_interval = async {
        // By now, every interval is at its maximum.
        sleep(120 * SECOND).await;
        let before = api.counts();
        sleep(100 * SECOND).await;
        (before, api.counts())
    };
    let (results, (before, after)) = tokio::join!(join_all(waits), at_max_interval);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(after.gets, before.gets);
    // Five intervals of 20 s, ten devices.
    assert!((40..=50).contains(&(after.lists - before.lists)), "{before:?} {after:?}");
}

#[tokio::test(start_paused = true)]
async fn gets_replace_a_list_that_costs_more() {
    let api = FakeAmapi::default();
    let (service, _serving) = api.serve();
    (1..=1000).for_each(|id| api.issue(&name(1, id)));
    api.set_page_size(10);
    // Both are at the end of a list of 100 pages.
    let names = [name(1, 998), name(1, 999)];
    let results = join_all(names.iter().map(|name| wait(&service, name, 300))).await;
    assert!(results.iter().all(Result::is_ok));
    let Counts { gets, lists, .. } = api.counts();
    assert!(lists <= 20, "{lists} lists");
    assert!(gets >= 30, "{gets} gets");
}

#[tokio::test(start_paused = true)]
async fn a_poller_without_waiters_stops() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    wait(&service, &name(1, 1), 10).await.expect("answered");
    let after = queries(&api);
    sleep(600 * SECOND).await;
    assert_eq!(queries(&api), after);
}

#[tokio::test(start_paused = true)]
async fn a_transient_error_does_not_end_a_wait() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    let outage = async {
        sleep(3 * SECOND).await;
        api.fail(Some(unreachable()));
        sleep(60 * SECOND).await;
        api.fail(None);
        api.finish(&name(1, 1));
    };
    let name = name(1, 1);
    let (result, ()) = tokio::join!(wait(&service, &name, 600), outage);
    assert!(result.expect("answered").done);
}

#[tokio::test(start_paused = true)]
async fn a_lasting_transient_error_is_returned_at_the_end_of_the_wait() {
    let api = FakeAmapi::default();
    api.fail(Some(unreachable()));
    let (service, _serving) = api.serve();
    let start = Instant::now();
    let error = wait(&service, &name(1, 1), 60).await.expect_err("no state is known");
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(start.elapsed(), 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn polls_without_quota_are_repeated_at_the_time_of_their_turn_and_fail_no_wait() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    let shortage = async {
        sleep(3 * SECOND).await;
        api.fail(Some(over_budget(40)));
        // One more poll fails.
        sleep(10 * SECOND).await;
        let before = queries(&api);
        // A cancel of the operation, which needs a poll, has no quota for it either.
        cancel(&service, &name(1, 1)).await.expect_err("no quota");
        sleep(20 * SECOND).await;
        assert_eq!(queries(&api), before, "no poll before the time");
        api.fail(None);
        api.finish(&name(1, 1));
        Instant::now()
    };
    let name = name(1, 1);
    let (result, finished) = tokio::join!(wait(&service, &name, 600), shortage);
    assert!(result.expect("answered").done);
    assert!(finished.elapsed() <= 16 * SECOND, "{:?}", finished.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_wait_without_quota_returns_the_known_state_at_its_end() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    let shortage = async {
        sleep(SECOND).await;
        api.fail(Some(over_budget(40)));
    };
    let name = name(1, 1);
    let start = Instant::now();
    let (result, ()) = tokio::join!(wait(&service, &name, 30), shortage);
    assert!(!result.expect("the state is known").done);
    assert_eq!(start.elapsed(), 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_wait_without_quota_and_without_a_known_state_fails_at_its_end_with_the_time_of_the_turn() {
    let api = FakeAmapi::default();
    api.fail(Some(over_budget(40)));
    let (service, _serving) = api.serve();
    let start = Instant::now();
    let error = wait(&service, &name(1, 1), 30).await.expect_err("no state is known");
    assert_eq!(start.elapsed(), 30 * SECOND);
    assert_eq!(queries(&api), 1, "only the first get, because no poll has its turn before the end");
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(error.get_details_error_info().expect("details").reason, "QUOTA_BUDGET");
    let retry_delay = error.get_details_retry_info().and_then(|info| info.retry_delay);
    // The get took 0.1 s.
    assert_eq!(retry_delay, Some(Duration::from_millis(10_100)));
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_ends_the_wait_with_its_status() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    let error = wait(&service, &name(1, 2), 600).await.expect_err("unknown");
    assert_eq!(error.code(), Code::NotFound);
    let deleted = async {
        sleep(3 * SECOND).await;
        api.delete(&name(1, 1));
    };
    let start = Instant::now();
    let name = name(1, 1);
    let (result, ()) = tokio::join!(wait(&service, &name, 600), deleted);
    assert_eq!(result.expect_err("deleted").code(), Code::NotFound);
    assert!(start.elapsed() < 10 * SECOND);
    api.fail(Some(not_found()));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_wait_within_the_shortest_interval() {
    let api = FakeAmapi::default();
    api.issue(&name(1, 1));
    let (service, _serving) = api.serve();
    let name = name(1, 1);
    let cancelled = async {
        // The interval is at its maximum.
        sleep(200 * SECOND).await;
        cancel(&service, &name).await.expect("cancelled");
        Instant::now()
    };
    let (result, cancelled) = tokio::join!(wait(&service, &name, 600), cancelled);
    assert!(is_cancelled(&result.expect("answered")));
    assert!(cancelled.elapsed() <= Duration::from_millis(1300), "{:?}", cancelled.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_all_waits_with_the_latest_state() {
    let api = FakeAmapi::default();
    (1..=3).for_each(|id| api.issue(&name(1, id)));
    let (service, serving) = api.serve();
    let start = Instant::now();
    let drain = async {
        sleep(5 * SECOND).await;
        serving.send_replace(Serving::Draining);
    };
    let names = [name(1, 1), name(1, 2), name(1, 3)];
    let (results, ()) = tokio::join!(join_all(names.iter().map(|name| wait(&service, name, 600))), drain);
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|operation| !operation.done)));
    assert_eq!(start.elapsed(), 5 * SECOND);
    let late = wait(&service, &names[0], 600).await.expect("answered");
    assert!(!late.done && start.elapsed() < 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_negative_timeout_is_rejected() {
    let api = FakeAmapi::default();
    let (service, _serving) = api.serve();
    let error = wait(&service, &name(1, 1), -1).await.expect_err("refused");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(queries(&api), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_poller_ends_its_waits_and_the_next_wait_starts_another_poller() {
    let api = FakeAmapi::default();
    let names = [name(1, 1), name(1, 2)];
    names.iter().for_each(|name| api.issue(name));
    let (service, _serving) = api.serve();
    let start = Instant::now();
    let panic = async {
        sleep(5 * SECOND).await;
        api.set_lists_panic(true);
    };
    let waits = names.iter().map(|name| wait(&service, name, 600));
    let (results, ()) = tokio::join!(join_all(waits), panic);
    for result in results {
        assert_eq!(result.expect_err("the poller panicked").code(), Code::Internal);
    }
    assert!(start.elapsed() < 12 * SECOND, "{:?}", start.elapsed());

    api.set_lists_panic(false);
    let finish = async {
        sleep(5 * SECOND).await;
        api.finish(&names[0]);
    };
    let start = Instant::now();
    let (result, ()) = tokio::join!(wait(&service, &names[0], 600), finish);
    assert!(result.expect("answered").done);
    assert!(start.elapsed() < 12 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_hangs_does_not_delay_the_waits_for_other_operations_of_the_device() {
    let api = FakeAmapi::default();
    (1..=2).for_each(|id| api.issue(&name(1, id)));
    // One operation per page, so that each operation is polled by a get.
    api.set_page_size(1);
    let (service, _serving) = api.serve();
    let start = Instant::now();
    let finish = async {
        sleep(3 * SECOND).await;
        api.hang(&name(1, 1));
        sleep(2 * SECOND).await;
        api.finish(&name(1, 2));
    };
    let (hung, other) = (name(1, 1), name(1, 2));
    let waits = (wait(&service, &hung, 10), wait(&service, &other, 300));
    let (_, result, ()) = tokio::join!(waits.0, waits.1, finish);
    assert!(result.expect("answered").done);
    // The round in which the query hangs ends after the longest interval, 20 s, and not after the upstream's 30 s.
    assert!(start.elapsed() <= 30 * SECOND, "{:?}", start.elapsed());
}
