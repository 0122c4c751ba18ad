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
    /// Starts a log. The floods are the same in every run.
    fn new() -> Self {
        fastrand::seed(14);
        Self::default()
    }

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

/// The estimates are good: of the queries that waited, most had their turn. An estimate does not count the queries that come
/// later and leave before. The first ten seconds of a flood are not steady.
fn assert_most_waited_for_a_turn(queries: &[Query]) {
    let start = queries.iter().map(|query| query.asked).min().expect("queries");
    let waited = |query: &&Query| query.decided > query.asked && query.asked > start + 10 * SECOND;
    let queued: Vec<_> = queries.iter().filter(waited).collect();
    let in_vain = queued.iter().filter(|query| !query.is_admitted);
    let in_vain: [usize; 3] =
        Class::ALL.map(|class| in_vain.clone().filter(|query| query.class == class).count());
    assert!(
        in_vain.iter().sum::<usize>() * 2 < queued.len(),
        "{in_vain:?} of {} waited in vain",
        queued.len()
    );
}

/// The rate of [`settings`], in queries per second.
const RATE: f64 = 9.5;

#[tokio::test(start_paused = true)]
async fn equal_callers_get_equal_shares() {
    let (budget, log) = (Arc::new(budget(&settings())), Log::new());
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
    assert_most_waited_for_a_turn(&log.queries());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_floods_gets_its_share_and_what_the_others_leave() {
    let (budget, log) = (Arc::new(budget(&settings())), Log::new());
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
    assert_most_waited_for_a_turn(&queries);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_alone_gets_the_full_rate() {
    let (budget, log) = (Arc::new(budget(&settings())), Log::new());
    let end = Instant::now() + 60 * SECOND;
    log.flood(&budget, (Class::Poll, 0), 2.0 * RATE, 5 * SECOND, end);
    sleep_until(end).await;
    assert!(log.admitted(0) >= 0.98 * RATE * 60.0, "{}", log.admitted(0));
    assert_most_waited_for_a_turn(&log.queries());
}

/// The calls and their deadlines are ten times what the rate serves, for three minutes.
#[tokio::test(start_paused = true)]
async fn overload_uses_the_rate_never_exceeds_the_limit_and_delays_no_cancel() {
    let (budget, log) = (Arc::new(budget(&settings())), Log::new());
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
}

/// Takes all queries that a class may have at once.
async fn spend(budget: &ProjectBudget, class: Class) {
    while budget.acquire(class, &flight(0, Duration::ZERO)).await.is_ok() {}
}

/// The decisions on a class: immediate, delayed, refused, abandoned.
fn decisions(budget: &ProjectBudget, class: Class) -> [u64; 4] {
    budget.reading().decisions[class.index()]
}

#[tokio::test(start_paused = true)]
async fn a_query_waits_within_its_deadline_and_is_refused_before_it_if_others_came() {
    let budget = Arc::new(budget(&settings()));
    spend(&budget, Class::Cancel).await;
    let start = Instant::now();
    // The last of three reads would leave after 13 intervals: ten until reads are admitted, and three.
    let waits: Vec<_> = (0..3)
        .map(|uid| {
            let (budget, flight) = (Arc::clone(&budget), flight(uid, 3 * SECOND));
            tokio::spawn(
                async move { (budget.acquire(Class::Read, &flight).await.map(drop), start.elapsed()) },
            )
        })
        .collect();
    // Cancels come before them, and take two seconds of the rate.
    sleep(SECOND / 2).await;
    let cancels: Vec<_> = (0..18)
        .map(|uid| {
            let (budget, flight) = (Arc::clone(&budget), flight(uid, 20 * SECOND));
            tokio::spawn(async move { budget.acquire(Class::Cancel, &flight).await.map(drop) })
        })
        .collect();
    for wait in waits {
        let (result, elapsed) = wait.await.expect("no panic");
        let Refused { retry_after } = result.expect_err("cancels came");
        let margin = Duration::from_millis(250);
        assert_eq!(elapsed, 3 * SECOND - margin);
        assert!(retry_after > margin, "{retry_after:?}");
    }
    for cancel in cancels {
        cancel.await.expect("no panic").expect("admitted");
    }
    let _ = budget.acquire(Class::Read, &flight(1, 2 * SECOND)).await.expect("nobody else came");
    let [_, delayed, refused, abandoned] = decisions(&budget, Class::Read);
    assert_eq!((delayed, refused, abandoned), (1, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_costs_no_query() {
    let budget = Arc::new(budget(&settings()));
    spend(&budget, Class::Cancel).await;
    let waits: Vec<_> = (0..9)
        .map(|uid| {
            let (budget, flight) = (Arc::clone(&budget), flight(uid, 10 * SECOND));
            tokio::spawn(async move { budget.acquire(Class::Cancel, &flight).await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(budget.reading().queued, [9, 0, 0]);
    for wait in &waits {
        wait.abort();
    }
    for wait in waits {
        wait.await.expect_err("aborted");
    }
    assert_eq!((budget.reading().queued, decisions(&budget, Class::Cancel)), ([0; 3], [30, 0, 1, 9]));
    sleep(Duration::from_millis(1060)).await;
    assert_eq!(budget.reading().available.floor(), 10.0, "ten intervals have passed");
}

#[tokio::test(start_paused = true)]
async fn a_poll_becomes_a_read_when_a_call_joins_it() {
    let budget = Arc::new(budget(&settings()));
    spend(&budget, Class::Read).await;
    let (start, poll) = (Instant::now(), polls(1, 20 * SECOND));
    let wait = {
        let (budget, poll) = (Arc::clone(&budget), Arc::clone(&poll));
        tokio::spawn(async move { (budget.acquire(Class::Poll, &poll).await.map(drop), start.elapsed()) })
    };
    tokio::task::yield_now().await;
    assert_eq!(budget.reading().queued, [0, 0, 1], "polls have ten queries less than reads");
    poll.join(Instant::now() + SECOND, false);
    let (result, elapsed) = wait.await.expect("no panic");
    result.expect("admitted");
    assert!(elapsed < Duration::from_millis(110), "{elapsed:?}");
    assert_eq!((decisions(&budget, Class::Poll), decisions(&budget, Class::Read)[1]), ([0; 4], 1));
}

#[tokio::test(start_paused = true)]
async fn a_query_moves_to_the_place_of_a_caller_that_joins_it() {
    let budget = Arc::new(budget(&settings()));
    spend(&budget, Class::Cancel).await;
    let start = Instant::now();
    let cancel = |flight: Arc<Flight>| {
        let budget = Arc::clone(&budget);
        tokio::spawn(async move { (budget.acquire(Class::Cancel, &flight).await.map(drop), start.elapsed()) })
    };
    let flood: Vec<_> = (0..100).map(|_| cancel(flight(1, 20 * SECOND))).collect();
    tokio::task::yield_now().await;
    let shared = flight(1, 20 * SECOND);
    let last = cancel(Arc::clone(&shared));
    tokio::task::yield_now().await;
    let (_, expected) = shared.expected_turn().expect("it waits");
    assert!(expected > start + 10 * SECOND);
    assert_eq!(budget.reading().queued, [101, 0, 0]);
    shared.add_caller(Caller::unix(2));
    let (result, elapsed) = last.await.expect("no panic");
    result.expect("admitted");
    assert!(elapsed < SECOND / 2, "{elapsed:?}");
    assert_eq!(shared.expected_turn(), None);
    for query in flood {
        query.await.expect("no panic").0.expect("admitted");
    }
    assert_eq!(decisions(&budget, Class::Cancel)[1], 101);
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_delays_nobody_and_counts_what_it_would_have_done() {
    let shadow = QuotaSettings { mode: QuotaMode::Shadow, ..settings() };
    let (budget, start) = (budget(&shadow), Instant::now());
    for _ in 0..100 {
        let _ = budget.acquire(Class::Read, &flight(1, 2 * SECOND)).await.expect("shadow");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    let [immediate, delayed, refused, abandoned] = decisions(&budget, Class::Read);
    let queued = budget.reading().queued[1];
    assert!(queued > 5, "{queued}");
    assert_eq!((immediate, delayed, refused, abandoned), (20, 0, 80 - queued, 0));
    sleep(3 * SECOND).await;
    assert_eq!(decisions(&budget, Class::Read), [20, queued, 80 - queued, 0]);
    assert_eq!(budget.reading().queued, [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_counts_a_poll_as_a_poll() {
    let budget = budget(&QuotaSettings { mode: QuotaMode::Shadow, ..settings() });
    for _ in 0..15 {
        let poll = Flight::polled_for(None, Trace::default(), Instant::now() + 20 * SECOND);
        let _ = budget.acquire(Class::Poll, &poll).await.expect("shadow");
    }
    sleep(20 * SECOND).await;
    assert_eq!((decisions(&budget, Class::Poll), decisions(&budget, Class::Read)), ([10, 5, 0, 0], [0; 4]));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_google_holds_reads_until_a_cancel_every_five_seconds_gets_an_answer() {
    let (budget, start) = (budget(&settings()), Instant::now());
    let cancel = async |wait: Duration| {
        budget.acquire(Class::Cancel, &flight(1, wait)).await.expect("a cancel is not shut out")
    };
    cancel(SECOND).await.refused_by_google(None);
    let refused = budget.acquire(Class::Read, &flight(1, 10 * SECOND)).await.expect_err("held");
    assert_eq!(refused.retry_after, 60 * SECOND);
    assert_eq!((budget.reading().hold, budget.reading().google_refusals), (60 * SECOND, 1));
    assert!((budget.reading().rate - 0.7 * RATE).abs() < 1e-9);

    cancel(10 * SECOND).await.refused_by_google(None);
    assert_eq!(start.elapsed(), Duration::ZERO, "the first probe does not wait");
    assert_eq!(budget.reading().hold, 60 * SECOND, "the refusal of a probe begins the minute again");
    assert!((budget.reading().rate - 0.7 * RATE).abs() < 1e-9);

    cancel(10 * SECOND).await.refused_by_google(None);
    assert_eq!(start.elapsed(), 5 * SECOND);

    let (probe, waiting) = tokio::join!(cancel(10 * SECOND), async {
        let flight = flight(1, 70 * SECOND);
        let (probe, read) = tokio::join!(cancel(20 * SECOND), budget.acquire(Class::Read, &flight));
        let _ = (probe, read.expect("the hold ends"));
        start.elapsed()
    });
    drop(probe);
    assert_eq!(waiting, 65 * SECOND, "no answer came, and the hold ended by its time");

    cancel(SECOND).await.refused_by_google(Some(20 * SECOND));
    cancel(10 * SECOND).await.answered();
    assert_eq!((start.elapsed(), budget.reading().hold), (65 * SECOND, Duration::ZERO));
    let _ = budget.acquire(Class::Read, &flight(1, SECOND)).await.expect("the hold ended");
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_probe_wakes_the_queries_that_wait() {
    let (budget, start) = (Arc::new(budget(&settings())), Instant::now());
    let _ =
        budget.acquire(Class::Cancel, &flight(1, SECOND)).await.map(|query| query.refused_by_google(None));
    let read = {
        let (budget, flight) = (Arc::clone(&budget), flight(2, 90 * SECOND));
        tokio::spawn(async move { (budget.acquire(Class::Read, &flight).await.map(drop), start.elapsed()) })
    };
    sleep(SECOND).await;
    budget.acquire(Class::Cancel, &flight(1, 10 * SECOND)).await.expect("a probe").answered();
    let (result, elapsed) = read.await.expect("no panic");
    assert_eq!((result, elapsed), (Ok(()), SECOND));
}

#[tokio::test(start_paused = true)]
async fn new_settings_are_active_at_once_and_keep_what_was_learned() {
    let budget = Arc::new(budget(&settings()));
    budget
        .acquire(Class::Cancel, &flight(1, SECOND))
        .await
        .expect("admitted")
        .refused_by_google(Some(SECOND));
    sleep(SECOND).await;
    spend(&budget, Class::Cancel).await;
    let start = Instant::now();
    let wait = {
        let (budget, flight) = (Arc::clone(&budget), flight(1, 60 * SECOND));
        tokio::spawn(async move { (budget.acquire(Class::Read, &flight).await.map(drop), start.elapsed()) })
    };
    tokio::task::yield_now().await;
    budget.replace(Some(&QuotaSettings { limit: 6000, burst: Some(300), ..settings() }));
    let (result, elapsed) = wait.await.expect("no panic");
    assert_eq!((result, elapsed), (Ok(()), Duration::ZERO), "the burst is larger");
    assert!((budget.reading().rate - 0.7 * 95.0).abs() < 0.1, "{}", budget.reading().rate);
}

#[tokio::test(start_paused = true)]
async fn a_project_without_a_section_is_no_longer_paced() {
    let budget = Arc::new(budget(&settings()));
    spend(&budget, Class::Cancel).await;
    let start = Instant::now();
    let wait = {
        let (budget, flight) = (Arc::clone(&budget), flight(1, 10 * SECOND));
        tokio::spawn(async move { budget.acquire(Class::Poll, &flight).await.map(drop) })
    };
    tokio::task::yield_now().await;
    budget.replace(None);
    wait.await.expect("no panic").expect("released");
    for _ in 0..1000 {
        let _ = budget.acquire(Class::Poll, &flight(1, SECOND)).await.expect("not paced");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}
