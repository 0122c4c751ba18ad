use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::{Flights, Joined};
use crate::{
    amapi::{Outcome, error::Error},
    audit::Record,
    budget::Budget,
    name::OperationName,
};

const SECOND: Duration = Duration::from_secs(1);

fn name() -> OperationName {
    OperationName::parse("enterprises/LC01/devices/d1/operations/17").expect("valid")
}

fn flights() -> Flights<usize> {
    Flights::new(30 * SECOND, TaskTracker::new())
}

/// Calls upstream that take two seconds, counted at their start and at their end.
#[derive(Clone, Default)]
struct Upstream {
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Upstream {
    async fn ask(self, budget: Arc<Budget>) -> Outcome<usize> {
        budget.sending(&Arc::from("emea"));
        let nth = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(2 * SECOND).await;
        self.ended.fetch_add(1, Ordering::Relaxed);
        Outcome { result: Ok(nth), attempts: 3, upstream_status: Some(200), credential: None }
    }

    fn counts(&self) -> (usize, usize) {
        (self.begun.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }
}

async fn join(flights: &Flights<usize>, upstream: &Upstream, timeout: Duration) -> Result<usize, Error> {
    joined(flights, upstream, timeout, &Record::default()).await.outcome.result
}

async fn joined(
    flights: &Flights<usize>,
    upstream: &Upstream,
    timeout: Duration,
    record: &Record,
) -> Joined<usize> {
    flights.join(&name(), Instant::now() + timeout, Some(record), |budget| upstream.clone().ask(budget)).await
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
    let (flights, upstream) = (Flights::new(30 * SECOND, tasks.clone()), Upstream::default());
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
async fn who_joins_learns_what_the_call_took() {
    let (flights, upstream) = (flights(), Upstream::default());
    let record = Record::default();
    let (first, second, late) = tokio::join!(
        joined(&flights, &upstream, 10 * SECOND, &record),
        joined(&flights, &upstream, 10 * SECOND, &record),
        joined(&flights, &upstream, SECOND, &record),
    );
    assert_eq!([first.is_shared, second.is_shared, late.is_shared], [false, true, true]);
    for Joined { outcome, .. } in [first, second] {
        assert_eq!((outcome.attempts, outcome.upstream_status), (3, Some(200)));
    }
    assert_eq!((late.outcome.attempts, late.outcome.upstream_status), (0, None), "it does not know");
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_learns_the_outcome_after_its_deadline() {
    let (flights, upstream) = (flights(), Upstream::default());
    let record = Record::default();
    record.hung_up();
    let gone = joined(&flights, &upstream, SECOND, &record).await;
    assert_eq!(gone.outcome.result.expect("answered"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_answers_and_does_not_stay() {
    let flights = flights();
    let deadline = Instant::now() + SECOND;
    let broken = flights.join(&name(), deadline, None, |_| async { panic!("on purpose") }).await;
    assert!(matches!(broken.outcome.result, Err(Error::Lost)), "{broken:?}");
    let upstream = Upstream::default();
    assert_eq!(join(&flights, &upstream, 10 * SECOND).await.expect("answered"), 1);
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
