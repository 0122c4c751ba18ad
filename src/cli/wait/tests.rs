//! The requests and pauses of a wait, on a paused clock and without sockets.

use std::cell::RefCell;

use tokio::time::advance;
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::{amapi::error::Error, operations::status::from_upstream};

const SECOND: Duration = Duration::from_secs(1);

fn pending() -> Result<Operation, ClientError> {
    Ok(Operation::default())
}

fn done() -> Result<Operation, ClientError> {
    Ok(Operation { done: true, ..Operation::default() })
}

fn failed(code: Code) -> Result<Operation, ClientError> {
    Err(ClientError::new(Status::new(code, ""), Exit::Failed))
}

/// Waits for `time`. `respond` receives the number of the request, from 0, and its timeout. Returns the outcome, and
/// the start (in seconds) and the timeout of each request.
async fn run(
    time: Duration,
    respond: impl AsyncFn(usize, Duration) -> Result<Operation, ClientError>,
) -> (Result<Waited, ClientError>, Vec<(f64, Duration)>) {
    let started = Instant::now();
    let requests = RefCell::new(Vec::new());
    let wait = async |timeout| {
        let index = requests.borrow().len();
        requests.borrow_mut().push((started.elapsed().as_secs_f64(), timeout));
        respond(index, timeout).await
    };
    let outcome = until_done(started + time, wait).await;
    (outcome, requests.into_inner())
}

/// The seconds between the requests.
fn pauses(requests: &[(f64, Duration)]) -> Vec<f64> {
    requests.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_holds_the_call_gets_one_call_with_the_time_minus_a_margin() {
    let (outcome, requests) = run(600 * SECOND, async |_, _| {
        sleep(300 * SECOND).await;
        done()
    })
    .await;
    assert!(matches!(outcome, Ok(Waited::Done(_))), "{outcome:?}");
    assert_eq!(requests, [(0.0, 599 * SECOND)]);
}

#[tokio::test(start_paused = true)]
async fn a_server_with_a_shorter_limit_is_called_again_at_once() {
    let limit = 10 * SECOND;
    let (outcome, requests) = run(60 * SECOND, async |_, timeout| {
        sleep(timeout.min(limit)).await;
        pending()
    })
    .await;
    assert!(matches!(outcome, Ok(Waited::TimedOut(_))), "{outcome:?}");
    assert_eq!(requests.len(), 6, "{requests:?}");
    assert!(pauses(&requests).iter().all(|pause| (*pause - 10.0).abs() < 0.1), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_at_once_is_called_with_growing_pauses() {
    let began = Instant::now();
    let (outcome, requests) = run(100 * SECOND, async |_, _| pending()).await;
    assert!(matches!(outcome, Ok(Waited::TimedOut(_))), "{outcome:?}");
    // The last call is at the end of the time, not a whole pause before the end.
    assert!((99.0..=100.0).contains(&began.elapsed().as_secs_f64()), "{requests:?}");
    let pauses = pauses(&requests);
    for (pause, wanted) in pauses.iter().zip([1.0, 1.5, 2.25, 3.375, 5.06, 7.6, 11.4, 17.1, 20.0]) {
        assert!((wanted * 0.89..=wanted * 1.01).contains(pause), "{pauses:?}");
    }
    assert!((9..=12).contains(&pauses.len()), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_held_resets_the_pauses() {
    let (_, requests) = run(100 * SECOND, async |index, _| {
        if index == 3 {
            sleep(30 * SECOND).await;
        }
        pending()
    })
    .await;
    // The fourth call is held for 30 s, and the fifth follows at once. Then the pauses start again.
    for (pause, wanted) in pauses(&requests).iter().zip([1.0, 1.5, 2.25, 30.0, 1.0, 1.5]) {
        assert!((wanted * 0.89..=wanted * 1.01).contains(pause), "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_server_is_retried() {
    let (outcome, requests) = run(60 * SECOND, async |nth, _| match nth {
        0..3 => failed(Code::Unavailable),
        3 => failed(Code::DeadlineExceeded),
        _ => done(),
    })
    .await;
    assert!(matches!(outcome, Ok(Waited::Done(_))), "{outcome:?}");
    for (pause, wanted) in pauses(&requests).iter().zip([0.2, 0.3, 0.45, 0.675]) {
        assert!((wanted * 0.89..=wanted * 1.01).contains(pause), "{requests:?}");
    }
    assert_eq!(requests.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_retry_delay_of_the_server_is_respected() {
    // A delay beyond the deadline leaves one last call before it.
    for (delay, pause) in [(7 * SECOND, 7.0), (Duration::MAX, 59.0)] {
        let (outcome, requests) = run(60 * SECOND, async |nth, _| {
            let mut details = ErrorDetails::new();
            details.set_retry_info(Some(delay));
            let status = Status::with_error_details(Code::Unavailable, "", details);
            if nth == 0 { Err(ClientError::new(status, Exit::Failed)) } else { done() }
        })
        .await;
        assert!(matches!(outcome, Ok(Waited::Done(_))), "{outcome:?}");
        assert_eq!(requests.len(), 2);
        assert!((pauses(&requests)[0] - pause).abs() < 0.01, "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_spent_its_quota_is_called_again_at_the_time_that_it_gives() {
    let (outcome, requests) = run(60 * SECOND, async |nth, _| {
        let error = Error::QuotaBudget { retry_after: 7 * SECOND, project: "mdm".into() };
        if nth == 0 { Err(ClientError::new(from_upstream(&error), Exit::Failed)) } else { done() }
    })
    .await;
    assert!(matches!(outcome, Ok(Waited::Done(_))), "{outcome:?}");
    assert!((pauses(&requests)[0] - 7.0).abs() < 0.01, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_ends_the_wait() {
    for code in [Code::NotFound, Code::PermissionDenied, Code::ResourceExhausted] {
        let (outcome, requests) =
            run(60 * SECOND, async |nth, _| if nth == 0 { pending() } else { failed(code) }).await;
        assert_eq!(outcome.unwrap_err().code(), code);
        assert_eq!(requests.len(), 2);
    }
    // A server without WaitOperation is not polled with GetOperation.
    let (outcome, requests) = run(60 * SECOND, async |_, _| failed(Code::Unimplemented)).await;
    assert_eq!((outcome.unwrap_err().code(), requests.len()), (Code::Unimplemented, 1));
}

#[tokio::test(start_paused = true)]
async fn the_timeout_returns_the_latest_state_or_the_last_error() {
    let (outcome, _) =
        run(9 * SECOND, async |nth, _| if nth == 0 { pending() } else { failed(Code::Unavailable) }).await;
    assert!(matches!(outcome, Ok(Waited::TimedOut(_))), "{outcome:?}");

    let (outcome, _) = run(9 * SECOND, async |_, _| failed(Code::Unavailable)).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), error.exit()), (Code::Unavailable, Exit::Failed));

    let (outcome, _) = run(9 * SECOND, async |_, _| {
        sleep(9 * SECOND).await;
        failed(Code::DeadlineExceeded)
    })
    .await;
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), error.exit()), (Code::DeadlineExceeded, Exit::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_past_allows_one_call() {
    let deadline = Instant::now();
    advance(SECOND).await;
    let outcome = until_done(deadline, async |timeout| {
        assert_eq!(timeout, Duration::ZERO);
        pending()
    })
    .await;
    assert!(matches!(outcome, Ok(Waited::TimedOut(_))), "{outcome:?}");
}

#[test]
fn a_long_name_is_shortened_so_that_its_line_does_not_wrap() {
    assert_eq!(short("enterprises/LC01/devices/d1/operations/17"), "operation 17");
    let long = format!("a/{}17", "0".repeat(255));
    assert_eq!(short(&long), format!("operation …{}17", "0".repeat(38)));
    assert_eq!(short(&"ü".repeat(40)), format!("operation {}", "ü".repeat(40)));
}
