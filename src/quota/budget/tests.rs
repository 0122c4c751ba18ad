use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

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
