//! How the wait for an operation's end is paced, on a paused clock and without sockets.

use std::{cell::RefCell, time::Duration};

use tokio::time::{Instant, advance, sleep};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn pending() -> Result<Operation, Failure> {
    Ok(Operation::default())
}

fn done() -> Result<Operation, Failure> {
    Ok(Operation { done: true, ..Operation::default() })
}

fn refused(code: Code) -> Result<Operation, Failure> {
    Err(Failure::new(Status::new(code, ""), Exit::Failed))
}

/// Waits for `time`, where `answer` says what the nth question, from 0, gets; returns how it ended, and
/// each question with the seconds since the beginning at which it was asked.
async fn run(
    time: Duration,
    answer: impl AsyncFn(usize, Ask) -> Result<Operation, Failure>,
) -> (Result<Waited, Failure>, Vec<(f64, Ask)>) {
    let began = Instant::now();
    let asked = RefCell::new(Vec::new());
    let ask = async |how| {
        let nth = asked.borrow().len();
        asked.borrow_mut().push((began.elapsed().as_secs_f64(), how));
        answer(nth, how).await
    };
    let ended = until_done(began + time, ask).await;
    (ended, asked.into_inner())
}

/// The pauses between the questions.
fn pauses(asked: &[(f64, Ask)]) -> Vec<f64> {
    asked.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_waits_is_asked_once_for_all_the_time_but_the_answers_way() {
    let (ended, asked) = run(600 * SECOND, async |_, _| {
        sleep(300 * SECOND).await;
        done()
    })
    .await;
    assert!(matches!(ended, Ok(Waited::Done(_))), "{ended:?}");
    assert_eq!(asked, [(0.0, Ask::Wait(599 * SECOND))]);
}

#[tokio::test(start_paused = true)]
async fn a_server_with_a_limit_of_its_own_is_asked_again_at_once() {
    let limit = 10 * SECOND;
    let (ended, asked) = run(60 * SECOND, async |_, how| {
        let Ask::Wait(time) = how else { panic!("{how:?}") };
        sleep(time.min(limit)).await;
        pending()
    })
    .await;
    assert!(matches!(ended, Ok(Waited::TimedOut(_))), "{ended:?}");
    assert_eq!(asked.len(), 6, "{asked:?}");
    assert!(pauses(&asked).iter().all(|pause| (*pause - 10.0).abs() < 0.1), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_wait_is_polled_ever_more_slowly() {
    for has_wait in [true, false] {
        let began = Instant::now();
        let (ended, asked) = run(100 * SECOND, async |_, how| match how {
            Ask::Wait(_) if !has_wait => refused(Code::Unimplemented),
            _ => pending(),
        })
        .await;
        assert!(matches!(ended, Ok(Waited::TimedOut(_))), "{ended:?}");
        // The last look is at the end of the time, not a whole pause before it.
        assert!((99.0..=100.0).contains(&began.elapsed().as_secs_f64()), "{asked:?}");
        let polls: Vec<_> = asked.iter().filter(|(_, how)| has_wait || *how == Ask::Get).copied().collect();
        assert_eq!(asked.len() - polls.len(), usize::from(!has_wait));
        let pauses = pauses(&polls);
        for (pause, wanted) in pauses.iter().zip([1.0, 1.5, 2.25, 3.375, 5.06, 7.6, 11.4, 17.1, 20.0]) {
            assert!((wanted * 0.89..=wanted * 1.01).contains(pause), "{pauses:?}");
        }
        assert!((9..=12).contains(&pauses.len()), "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_tried_again_until_it_is_back() {
    let (ended, asked) = run(60 * SECOND, async |nth, _| match nth {
        0..3 => refused(Code::Unavailable),
        3 => refused(Code::DeadlineExceeded),
        _ => done(),
    })
    .await;
    assert!(matches!(ended, Ok(Waited::Done(_))), "{ended:?}");
    for (pause, wanted) in pauses(&asked).iter().zip([0.2, 0.3, 0.45, 0.675]) {
        assert!((wanted * 0.89..=wanted * 1.01).contains(pause), "{asked:?}");
    }
    assert_eq!(asked.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_names_a_delay_is_left_alone_for_it() {
    // The longest that the wire can hold is longer than the time: one last question at its end.
    for (delay, pause) in [(7 * SECOND, 7.0), (Duration::MAX, 59.0)] {
        let (ended, asked) = run(60 * SECOND, async |nth, _| {
            let mut details = ErrorDetails::new();
            details.set_retry_info(Some(delay));
            let status = Status::with_error_details(Code::Unavailable, "", details);
            if nth == 0 { Err(Failure::new(status, Exit::Failed)) } else { done() }
        })
        .await;
        assert!(matches!(ended, Ok(Waited::Done(_))), "{ended:?}");
        assert_eq!(asked.len(), 2);
        assert!((pauses(&asked)[0] - pause).abs() < 0.01, "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_ends_the_wait() {
    for code in [Code::NotFound, Code::PermissionDenied, Code::ResourceExhausted] {
        let (ended, asked) =
            run(60 * SECOND, async |nth, _| if nth == 0 { pending() } else { refused(code) }).await;
        assert_eq!(ended.unwrap_err().code(), code);
        assert_eq!(asked.len(), 2);
    }
    let (ended, asked) = run(60 * SECOND, async |_, _| refused(Code::Unimplemented)).await;
    assert_eq!(ended.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(asked.iter().map(|(_, how)| *how).collect::<Vec<_>>(), [Ask::Wait(59 * SECOND), Ask::Get]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_time_tells_the_latest_state_or_why_there_is_none() {
    let (ended, _) =
        run(9 * SECOND, async |nth, _| if nth == 0 { pending() } else { refused(Code::Unavailable) }).await;
    assert!(matches!(ended, Ok(Waited::TimedOut(_))), "{ended:?}");

    let (ended, _) = run(9 * SECOND, async |_, _| refused(Code::Unavailable)).await;
    let failure = ended.unwrap_err();
    assert_eq!((failure.code(), failure.exit()), (Code::Unavailable, Exit::Failed));

    let (ended, _) = run(9 * SECOND, async |_, _| {
        sleep(9 * SECOND).await;
        refused(Code::DeadlineExceeded)
    })
    .await;
    let failure = ended.unwrap_err();
    assert_eq!((failure.code(), failure.exit()), (Code::DeadlineExceeded, Exit::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_time_that_is_over_already_ends_the_wait_after_one_question() {
    let deadline = Instant::now();
    advance(SECOND).await;
    let ended = until_done(deadline, async |how| {
        assert_eq!(how, Ask::Wait(Duration::ZERO));
        pending()
    })
    .await;
    assert!(matches!(ended, Ok(Waited::TimedOut(_))), "{ended:?}");
}
