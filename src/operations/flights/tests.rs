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
    audit::{Arrival, Method, Record, TraceId},
    flight::Flight,
    name::OperationName,
};

const SECOND: Duration = Duration::from_secs(1);

fn name() -> OperationName {
    OperationName::parse("enterprises/LC01/devices/d1/operations/17").expect("valid")
}

fn flights() -> Flights<usize> {
    Flights::new(TaskTracker::new())
}

/// Calls upstream that take two seconds, counted at their start and at their end.
#[derive(Clone, Default)]
struct Upstream {
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Upstream {
    async fn ask(self, flight: Arc<Flight>) -> Result<usize, Error> {
        flight.sent();
        let nth = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(2 * SECOND).await;
        self.ended.fetch_add(1, Ordering::Relaxed);
        flight.sent();
        flight.responded(200);
        Ok(nth)
    }

    fn counts(&self) -> (usize, usize) {
        (self.begun.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }
}

async fn join(flights: &Flights<usize>, upstream: &Upstream, timeout: Duration) -> Result<usize, Error> {
    joined(flights, upstream, timeout, &Record::default()).await
}

async fn joined(
    flights: &Flights<usize>,
    upstream: &Upstream,
    timeout: Duration,
    record: &Record,
) -> Result<usize, Error> {
    flights.join(&name(), Instant::now() + timeout, Some(record), |flight| upstream.clone().ask(flight)).await
}

/// The attempts, the status and the sharing in the line of a call that ends now.
fn account(record: &Record) -> serde_json::Value {
    let line = Arrival::now(Method::Cancel, TraceId::random()).line(record, "OK").expect("the first line");
    let line: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
    serde_json::json!([line["attempts"], line["upstream_status"], line["shared"]])
}

#[tokio::test(start_paused = true)]
async fn fifty_callers_share_one_call() {
    let (flights, upstream) = (flights(), Upstream::default());
    let callers = (0..50).map(|_| join(&flights, &upstream, 10 * SECOND));
    for answer in futures_util::future::join_all(callers).await {
        assert_eq!(answer.expect("answered"), 1);
    }
    assert_eq!(upstream.counts(), (1, 1));
    assert_eq!(join(&flights, &upstream, 10 * SECOND).await.expect("answered"), 2, "the next begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_carried_on_when_its_caller_hangs_up() {
    let tasks = TaskTracker::new();
    let (flights, upstream) = (Flights::new(tasks.clone()), Upstream::default());
    let hung_up = tokio::time::timeout(SECOND, join(&flights, &upstream, 10 * SECOND)).await;
    assert!(hung_up.is_err());
    assert_eq!(upstream.counts(), (1, 0));
    tasks.close();
    tasks.wait().await;
    assert_eq!(upstream.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn each_waits_as_long_as_its_own_deadline() {
    let (flights, upstream) = (flights(), Upstream::default());
    let (hasty, patient) =
        tokio::join!(join(&flights, &upstream, SECOND), join(&flights, &upstream, 10 * SECOND));
    assert!(matches!(hasty, Err(Error::DeadlineExceeded { .. })), "{hasty:?}");
    assert_eq!(patient.expect("answered"), 1);
    let late = join(&flights, &upstream, Duration::ZERO).await;
    assert!(matches!(late, Err(Error::DeadlineExceeded { .. })), "{late:?}");
    assert_eq!(upstream.counts(), (1, 1), "a call that came too late sends nothing");
}

#[tokio::test(start_paused = true)]
async fn every_caller_has_the_account_of_the_call_it_shares() {
    let (flights, upstream) = (flights(), Upstream::default());
    let call = async |timeout| {
        let record = Record::default();
        let result = joined(&flights, &upstream, timeout, &record).await;
        (result.is_ok(), account(&record))
    };
    let (first, second, late) = tokio::join!(call(10 * SECOND), call(10 * SECOND), call(SECOND));
    assert_eq!(first, (true, serde_json::json!([2, 200, null])));
    assert_eq!(second, (true, serde_json::json!([2, 200, true])));
    assert_eq!(late, (false, serde_json::json!([1, null, true])), "of what was sent by then");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_disconnected_gets_the_outcome_after_its_deadline() {
    let (flights, upstream) = (flights(), Upstream::default());
    let record = Record::default();
    record.disconnected();
    let gone = joined(&flights, &upstream, SECOND, &record).await;
    assert_eq!(gone.expect("answered"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_followers_of_a_call_that_panics_are_answered_and_the_next_call_starts_anew() {
    let flights = flights();
    let deadline = Instant::now() + 10 * SECOND;
    let leader = tokio::spawn({
        let flights = flights.clone();
        async move {
            let broken = |_| async {
                sleep(SECOND).await;
                panic!("on purpose")
            };
            flights.join(&name(), deadline, None, broken).await
        }
    });
    sleep(SECOND / 2).await;
    let follower = flights.join(&name(), deadline, None, |_| async { Ok(1) }).await;
    assert!(matches!(follower, Err(Error::Lost)), "{follower:?}");
    leader.await.expect_err("it panicked");
    let upstream = Upstream::default();
    assert_eq!(join(&flights, &upstream, 10 * SECOND).await.expect("answered"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_followers_of_a_call_that_panics_after_its_caller_left_are_answered() {
    let flights = flights();
    let start = Instant::now();
    let broken = |_| async {
        sleep(2 * SECOND).await;
        panic!("on purpose")
    };
    let name = name();
    let (leader, follower) = tokio::join!(
        flights.join(&name, start + SECOND, None, broken),
        flights.join(&name, start + 10 * SECOND, None, |_| async { Ok(1) }),
    );
    assert!(matches!(leader, Err(Error::DeadlineExceeded { .. })), "{leader:?}");
    assert!(matches!(follower, Err(Error::Lost)), "{follower:?}");
    assert_eq!(start.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_joins_late_brings_its_own_deadline() {
    let flights = flights();
    let start = Instant::now();
    // It goes on as long as the flight lets it, up to a minute.
    let work = |flight: Arc<Flight>| async move {
        match flight.begin(sleep(60 * SECOND)).await {
            Ok(()) => Ok(1),
            Err(_) => Err(Error::DeadlineExceeded { while_doing: "on purpose" }),
        }
    };
    let name = name();
    let late = async {
        sleep(29 * SECOND).await;
        flights.join(&name, start + 89 * SECOND, None, |_| async { Ok(2) }).await
    };
    let (first, late) = tokio::join!(flights.join(&name, start + 30 * SECOND, None, work), late);
    assert!(matches!(first, Err(Error::DeadlineExceeded { .. })), "{first:?}");
    assert_eq!(late.expect("it had the time"), 1);
    assert_eq!(start.elapsed(), 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn nobody_joins_a_call_that_is_outdated() {
    let (flights, upstream) = (flights(), Upstream::default());
    let outdated = join(&flights, &upstream, 10 * SECOND);
    let fresh = async {
        sleep(SECOND).await;
        flights.forget(&name());
        let both = tokio::join!(join(&flights, &upstream, 10 * SECOND), async {
            // The outdated one has ended by now, and left the place to the fresh one.
            sleep(SECOND + SECOND / 2).await;
            join(&flights, &upstream, 10 * SECOND).await
        });
        (both.0.expect("answered"), both.1.expect("answered"))
    };
    let (outdated, fresh) = tokio::join!(outdated, fresh);
    assert_eq!(outdated.expect("answered"), 1);
    assert_eq!(fresh, (2, 2));
    assert_eq!(upstream.counts(), (2, 2));
}
