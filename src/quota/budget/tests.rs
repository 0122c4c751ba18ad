use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

use super::{ProjectBudget, Refused};
use crate::{
    caller::Caller,
    flight::Flight,
    quota::{
        Class,
        settings::{QuotaMode, QuotaSettings},
    },
    telemetry::{metrics::QuotaMetrics, traces::Trace},
};

const SECOND: Duration = Duration::from_secs(1);

/// 600 queries in a minute, of which 30 may leave at once: 9.5 a second.
fn settings() -> QuotaSettings {
    QuotaSettings {
        project: None,
        limit: 600,
        period: 60 * SECOND,
        burst: Some(30),
        mode: QuotaMode::Enforce,
    }
}

fn budget(settings: &QuotaSettings) -> ProjectBudget {
    ProjectBudget::new(&Arc::from("p"), settings, None, &QuotaMetrics::unregistered())
}

/// The flight of a call of the user `uid`, which waits for `wait`.
fn flight(uid: u32, wait: Duration) -> Arc<Flight> {
    Flight::started_by(Some(Caller::unix(uid)), Trace::default(), Instant::now() + wait)
}

/// As [`flight`], of polls.
fn polls(uid: u32, wait: Duration) -> Arc<Flight> {
    Flight::polled_for(Some(Caller::unix(uid)), Trace::default(), Instant::now() + wait)
}

#[tokio::test(start_paused = true)]
async fn the_burst_leaves_at_once_and_the_next_query_waits_for_its_turn() {
    let (budget, start) = (budget(&settings()), Instant::now());
    for _ in 0..30 {
        let _ = budget.acquire(Class::Cancel, &flight(1, SECOND)).await.expect("admitted");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    let _ = budget.acquire(Class::Cancel, &flight(1, SECOND)).await.expect("admitted");
    assert_eq!(
        start.elapsed(),
        Duration::from_millis(106),
        "the interval is 105.3 ms, and the timer has milliseconds"
    );
}

#[tokio::test(start_paused = true)]
async fn a_query_whose_turn_comes_too_late_is_refused_at_once_with_the_true_time() {
    let (budget, start) = (budget(&settings()), Instant::now());
    let mut retry_after = None;
    for _ in 0..100 {
        if let Err(refused) = budget.acquire(Class::Read, &flight(1, Duration::ZERO)).await {
            retry_after = Some(refused);
            break;
        }
    }
    let Refused { retry_after } = retry_after.expect("a refusal");
    assert_eq!(start.elapsed(), Duration::ZERO);
    tokio::time::advance(retry_after - Duration::from_millis(1)).await;
    budget.acquire(Class::Read, &flight(1, Duration::ZERO)).await.expect_err("too early");
    tokio::time::advance(Duration::from_millis(1)).await;
    let _ = budget.acquire(Class::Read, &flight(1, Duration::ZERO)).await.expect("the true time");
}

/// The queries that asked for their turn.
#[derive(Default, Clone)]
struct Log(Arc<Mutex<Vec<Query>>>);

/// The outcome of a query.
#[derive(Debug, Clone, Copy)]
struct Query {
    class: Class,
    uid: u32,
    asked: Instant,
    decided: Instant,
    is_admitted: bool,
}

impl Log {
    /// Asks for turns at a rate per second until `end`. Each query waits for at most `wait`.
    fn flood(
        &self,
        budget: &Arc<ProjectBudget>,
        (class, uid): (Class, u32),
        rate: f64,
        wait: Duration,
        end: Instant,
    ) {
        let (log, budget) = (self.clone(), Arc::clone(budget));
        tokio::spawn(async move {
            while Instant::now() < end {
                let (log, budget) = (log.clone(), Arc::clone(&budget));
                tokio::spawn(async move {
                    let asked = Instant::now();
                    let flight = if class == Class::Poll { polls(uid, wait) } else { flight(uid, wait) };
                    let is_admitted = budget.acquire(class, &flight).await.is_ok();
                    let query = Query { class, uid, asked, decided: Instant::now(), is_admitted };
                    log.0.lock().expect("the log").push(query);
                });
                // Callers are not in step.
                sleep(Duration::from_secs_f64((0.5 + fastrand::f64()) / rate)).await;
            }
        });
    }

    /// The outcomes so far.
    fn queries(&self) -> Vec<Query> {
        self.0.lock().expect("the log").clone()
    }

    /// The number of admitted queries of a caller.
    fn admitted(&self, uid: u32) -> f64 {
        self.queries().iter().filter(|query| query.is_admitted && query.uid == uid).count() as f64
    }
}

/// The estimates are good: of the queries that waited, few were refused in the end. The first ten seconds of a flood are
/// not steady, because callers come that nobody expects.
fn assert_few_waited_in_vain(queries: &[Query]) {
    let start = queries.iter().map(|query| query.asked).min().expect("queries");
    let waited = |query: &&Query| query.decided > query.asked && query.asked > start + 10 * SECOND;
    let queued: Vec<_> = queries.iter().filter(waited).collect();
    let in_vain = queued.iter().filter(|query| !query.is_admitted);
    let in_vain: [usize; 3] =
        Class::ALL.map(|class| in_vain.clone().filter(|query| query.class == class).count());
    println!("{in_vain:?} {}", queued.len());
    assert!(
        in_vain.iter().sum::<usize>() * 20 < queued.len(),
        "{in_vain:?} of {} waited in vain",
        queued.len()
    );
}

/// The rate of [`settings`], in queries per second.
const RATE: f64 = 9.5;

#[tokio::test(start_paused = true)]
async fn equal_callers_get_equal_shares() {
    let (budget, log) = (Arc::new(budget(&settings())), Log::default());
    let end = Instant::now() + 60 * SECOND;
    for uid in 0..20 {
        log.flood(&budget, (Class::Read, uid), RATE, 10 * SECOND, end);
    }
    sleep_until(end).await;
    let shares: Vec<f64> = (0..20).map(|uid| log.admitted(uid)).collect();
    let (sum, squares) = (shares.iter().sum::<f64>(), shares.iter().map(|share| share * share).sum::<f64>());
    assert!(sum > 570.0, "{sum}");
    let jain = sum * sum / (20.0 * squares);
    assert!(jain >= 0.95, "{jain}: {shares:?}");
    assert_few_waited_in_vain(&log.queries());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_floods_gets_its_share_and_what_the_others_leave() {
    let (budget, log) = (Arc::new(budget(&settings())), Log::default());
    let (start, minute) = (Instant::now(), 60 * SECOND);
    log.flood(&budget, (Class::Read, 0), 10.0 * RATE, 10 * SECOND, start + minute);
    for uid in 1..5 {
        log.flood(&budget, (Class::Read, uid), RATE / 8.0, 10 * SECOND, start + minute);
    }
    sleep_until(start + minute + 10 * SECOND).await;
    for uid in 1..5 {
        let queries: Vec<_> = log.queries().into_iter().filter(|query| query.uid == uid).collect();
        assert!(queries.iter().all(|query| query.is_admitted), "caller {uid} wants less than its share");
        let longest = queries.iter().map(|query| query.decided - query.asked).max().expect("queries");
        assert!(
            longest < SECOND,
            "caller {uid} waits for others once, not for the queue of the flood: {longest:?}"
        );
    }
    let queries = log.queries();
    let admitted = queries.iter().filter(|query| query.is_admitted).count() as f64;
    assert!(admitted >= 0.98 * RATE * 60.0, "all of the rate is used: {admitted}");
    assert_few_waited_in_vain(&queries);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_alone_gets_the_full_rate() {
    let (budget, log) = (Arc::new(budget(&settings())), Log::default());
    let end = Instant::now() + 60 * SECOND;
    log.flood(&budget, (Class::Poll, 0), 2.0 * RATE, 5 * SECOND, end);
    sleep_until(end).await;
    assert!(log.admitted(0) >= 0.98 * RATE * 60.0, "{}", log.admitted(0));
    assert_few_waited_in_vain(&log.queries());
}

/// The calls and their deadlines are ten times what the rate serves, for three minutes.
#[tokio::test(start_paused = true)]
async fn overload_uses_the_rate_never_exceeds_the_limit_and_delays_no_cancel() {
    let (budget, log) = (Arc::new(budget(&settings())), Log::default());
    let (start, end) = (Instant::now(), Instant::now() + 180 * SECOND);
    for uid in 0..10 {
        log.flood(&budget, (Class::Poll, uid), RATE / 2.0, 30 * SECOND, end);
        log.flood(&budget, (Class::Read, uid), RATE / 2.0, 10 * SECOND, end);
        log.flood(&budget, (Class::Cancel, uid), RATE / 20.0, 10 * SECOND, end);
    }
    sleep_until(end + 60 * SECOND).await;
    let queries = log.queries();

    let mut sent: Vec<_> =
        queries.iter().filter(|query| query.is_admitted).map(|query| query.decided).collect();
    sent.sort_unstable();
    let used = sent.iter().filter(|time| **time < end).count() as f64;
    assert!(used >= 0.98 * RATE * 180.0, "{used} of {}", RATE * 180.0);
    for (index, first) in sent.iter().enumerate() {
        let in_window = sent[index..].iter().take_while(|time| **time - *first < 60 * SECOND).count();
        assert!(in_window <= 600, "{in_window} from {:?}", *first - start);
    }

    let mut waits = Vec::new();
    for query in queries.iter().filter(|query| query.class == Class::Cancel) {
        assert!(query.is_admitted, "{query:?}");
        waits.push(query.decided - query.asked);
    }
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    assert!(p99 < SECOND, "{p99:?}");

    assert_few_waited_in_vain(&queries);
}
