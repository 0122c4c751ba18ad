use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::Flights;
use crate::{
    amapi::error::Error,
    audit::{Arrival, Method, Record},
    flight::Flight,
    name::OperationName,
    telemetry::metrics::Counter,
    trace_id::TraceId,
};

const SECOND: Duration = Duration::from_secs(1);

fn name() -> OperationName {
    OperationName::parse("enterprises/LC01/devices/d1/operations/17").expect("valid")
}

fn flights() -> Flights<usize> {
    Flights::new(TaskTracker::new(), Counter::default())
}

/// Counts the starts and ends of upstream calls, each of which takes two seconds.
#[derive(Clone, Default)]
struct FakeUpstream {
    started: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl FakeUpstream {
    async fn call(self, flight: Arc<Flight>) -> Result<usize, Error> {
        flight.sent();
        let nth = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(2 * SECOND).await;
        self.ended.fetch_add(1, Ordering::Relaxed);
        flight.sent();
        flight.responded(200);
        Ok(nth)
    }

    fn counts(&self) -> (usize, usize) {
        (self.started.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }
}

async fn join(flights: &Flights<usize>, upstream: &FakeUpstream, timeout: Duration) -> Result<usize, Error> {
    joined(flights, upstream, timeout, &Record::default()).await
}

async fn joined(
    flights: &Flights<usize>,
    upstream: &FakeUpstream,
    timeout: Duration,
    record: &Record,
) -> Result<usize, Error> {
    flights.join(&name(), Instant::now() + timeout, record, |flight| upstream.clone().call(flight)).await
}

/// The fields of the flight in the audit line of a call that ends now: `attempts`, `upstream_status` and `shared`.
fn flight_fields(record: &Record) -> serde_json::Value {
    let line = Arrival::now(Method::Cancel, TraceId::random()).line(record, "OK").expect("the first line");
    let line: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
    serde_json::json!([line["attempts"], line["upstream_status"], line["shared"]])
}

#[tokio::test(start_paused = true)]
async fn identical_calls_share_one_upstream_call() {
    let (flights, upstream) = (flights(), FakeUpstream::default());
    let callers = (0..50).map(|_| join(&flights, &upstream, 10 * SECOND));
    for result in futures_util::future::join_all(callers).await {
        assert_eq!(result.expect("a response"), 1);
    }
    assert_eq!(upstream.counts(), (1, 1));
    assert_eq!(
        join(&flights, &upstream, 10 * SECOND).await.expect("a response"),
        2,
        "the next call starts another one"
    );
}

#[tokio::test(start_paused = true)]
async fn an_upstream_call_completes_after_its_caller_disconnected() {
    let tasks = TaskTracker::new();
    let (flights, upstream) = (Flights::new(tasks.clone(), Counter::default()), FakeUpstream::default());
    let disconnected = tokio::time::timeout(SECOND, join(&flights, &upstream, 10 * SECOND)).await;
    assert!(disconnected.is_err());
    assert_eq!(upstream.counts(), (1, 0));
    tasks.close();
    tasks.wait().await;
    assert_eq!(upstream.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn each_caller_waits_until_its_own_deadline() {
    let (flights, upstream) = (flights(), FakeUpstream::default());
    let (short, long) =
        tokio::join!(join(&flights, &upstream, SECOND), join(&flights, &upstream, 10 * SECOND));
    assert!(matches!(short, Err(Error::DeadlineExceeded { .. })), "{short:?}");
    assert_eq!(long.expect("a response"), 1);
    let late = join(&flights, &upstream, Duration::ZERO).await;
    assert!(matches!(late, Err(Error::DeadlineExceeded { .. })), "{late:?}");
    assert_eq!(upstream.counts(), (1, 1), "a call after its deadline sends nothing");
}

#[tokio::test(start_paused = true)]
async fn every_caller_records_the_flight_that_it_shares() {
    let (flights, upstream) = (flights(), FakeUpstream::default());
    let call = async |timeout| {
        let record = Record::default();
        let result = joined(&flights, &upstream, timeout, &record).await;
        (result.is_ok(), flight_fields(&record))
    };
    let (first, second, late) = tokio::join!(call(10 * SECOND), call(10 * SECOND), call(SECOND));
    assert_eq!(first, (true, serde_json::json!([2, 200, null])));
    assert_eq!(second, (true, serde_json::json!([2, 200, true])));
    assert_eq!(late, (false, serde_json::json!([1, null, true])), "the requests that were sent by then");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_disconnected_gets_the_outcome_after_its_deadline() {
    let (flights, upstream) = (flights(), FakeUpstream::default());
    let record = Record::default();
    record.disconnected();
    let outcome = joined(&flights, &upstream, SECOND, &record).await;
    assert_eq!(outcome.expect("a response"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_followers_of_a_call_that_panics_are_answered_and_the_next_call_starts_another_one() {
    let flights = flights();
    let deadline = Instant::now() + 10 * SECOND;
    let leader = tokio::spawn({
        let flights = flights.clone();
        async move {
            let panicking = |_| async {
                sleep(SECOND).await;
                panic!("on purpose")
            };
            flights.join(&name(), deadline, &Record::default(), panicking).await
        }
    });
    sleep(SECOND / 2).await;
    let follower = flights.join(&name(), deadline, &Record::default(), |_| async { Ok(1) }).await;
    assert!(matches!(follower, Err(Error::Lost)), "{follower:?}");
    leader.await.expect_err("it panicked");
    let upstream = FakeUpstream::default();
    assert_eq!(join(&flights, &upstream, 10 * SECOND).await.expect("a response"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_followers_of_a_call_that_panics_after_its_caller_left_are_answered() {
    let flights = flights();
    let start = Instant::now();
    let panicking = |_| async {
        sleep(2 * SECOND).await;
        panic!("on purpose")
    };
    let (name, record) = (name(), Record::default());
    let (leader, follower) = tokio::join!(
        flights.join(&name, start + SECOND, &record, panicking),
        flights.join(&name, start + 10 * SECOND, &record, |_| async { Ok(1) }),
    );
    assert!(matches!(leader, Err(Error::DeadlineExceeded { .. })), "{leader:?}");
    assert!(matches!(follower, Err(Error::Lost)), "{follower:?}");
    assert_eq!(start.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_joins_later_extends_the_deadline() {
    let flights = flights();
    let start = Instant::now();
    // Runs until the deadline of the flight, at most for a minute.
    let work = |flight: Arc<Flight>| async move {
        match flight.begin(sleep(60 * SECOND)).await {
            Ok(()) => Ok(1),
            Err(_) => Err(Error::DeadlineExceeded { while_doing: "on purpose" }),
        }
    };
    let (name, record) = (name(), Record::default());
    let late = async {
        sleep(29 * SECOND).await;
        flights.join(&name, start + 89 * SECOND, &record, |_| async { Ok(2) }).await
    };
    let (first, late) = tokio::join!(flights.join(&name, start + 30 * SECOND, &record, work), late);
    assert!(matches!(first, Err(Error::DeadlineExceeded { .. })), "{first:?}");
    assert_eq!(late.expect("completed"), 1);
    assert_eq!(start.elapsed(), 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn no_caller_joins_an_outdated_call() {
    let (flights, upstream) = (flights(), FakeUpstream::default());
    let outdated = join(&flights, &upstream, 10 * SECOND);
    let fresh = async {
        sleep(SECOND).await;
        flights.forget(&name());
        let both = tokio::join!(join(&flights, &upstream, 10 * SECOND), async {
            // The outdated call has ended by now, and the fresh call is in the map.
            sleep(SECOND + SECOND / 2).await;
            join(&flights, &upstream, 10 * SECOND).await
        });
        (both.0.expect("a response"), both.1.expect("a response"))
    };
    let (outdated, fresh) = tokio::join!(outdated, fresh);
    assert_eq!(outdated.expect("a response"), 1);
    assert_eq!(fresh, (2, 2));
    assert_eq!(upstream.counts(), (2, 2));
}
