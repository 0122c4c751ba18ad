//! The hedge: a request that is sent again over a new connection, because the connection of the first is silent.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use futures_util::future::BoxFuture;

/// The time without a response after which a request may be hedged: a tenth of `upstream.timeout`, within these
/// bounds. Google usually responds within less.
const MIN_DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(3);

/// The time after which a request that was sent is overdue.
pub(super) fn delay(upstream_timeout: Duration) -> Duration {
    (upstream_timeout / 10).clamp(MIN_DELAY, MAX_DELAY)
}

/// The first success of `first` and its hedge, otherwise the latest failure. The other request is dropped. `hedge`
/// starts the hedge, and is called after each poll of `first` until it returns one.
pub(super) async fn first_success<T, E>(
    mut first: Pin<&mut impl Future<Output = Result<T, E>>>,
    mut hedge: impl FnMut() -> Option<BoxFuture<'static, Result<T, E>>>,
) -> Result<T, E> {
    let mut first_failed = false;
    let mut second = Second::NotStarted;
    poll_fn(|cx| {
        if !first_failed && let Poll::Ready(result) = first.as_mut().poll(cx) {
            if result.is_ok() || !matches!(second, Second::InFlight(_)) {
                return Poll::Ready(result);
            }
            first_failed = true;
        }
        if matches!(second, Second::NotStarted)
            && let Some(request) = hedge()
        {
            second = Second::InFlight(request);
        }
        if let Second::InFlight(request) = &mut second
            && let Poll::Ready(result) = request.as_mut().poll(cx)
        {
            if result.is_ok() || first_failed {
                return Poll::Ready(result);
            }
            second = Second::Failed;
        }
        Poll::Pending
    })
    .await
}

/// The state of the hedge.
enum Second<T> {
    NotStarted,
    InFlight(BoxFuture<'static, T>),
    Failed,
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use tokio::time::{Instant, sleep};

    use super::{delay, first_success};

    /// The result of two requests, each with its seconds and its result. The hedge starts at once.
    async fn race(first: (u64, Result<u8, u8>), second: (u64, Result<u8, u8>)) -> (Result<u8, u8>, u64) {
        let request = async |(seconds, result)| {
            sleep(Duration::from_secs(seconds)).await;
            result
        };
        let start = Instant::now();
        let result = first_success(pin!(request(first)), || Some(Box::pin(request(second)))).await;
        (result, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_success_wins() {
        assert_eq!(race((2, Ok(1)), (1, Ok(2))).await, (Ok(2), 1));
        assert_eq!(race((1, Ok(1)), (2, Ok(2))).await, (Ok(1), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_the_other_request_decides() {
        assert_eq!(race((1, Err(1)), (2, Ok(2))).await, (Ok(2), 2));
        assert_eq!(race((2, Ok(1)), (1, Err(2))).await, (Ok(1), 2));
        assert_eq!(race((2, Err(1)), (1, Err(2))).await, (Err(1), 2));
        assert_eq!(race((1, Err(1)), (2, Err(2))).await, (Err(2), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_before_the_hedge_is_the_result() {
        let first = pin!(async { Err::<u8, u8>(1) });
        assert_eq!(first_success(first, || None).await, Err(1));
    }

    #[test]
    fn the_delay_is_a_tenth_of_the_timeout_within_bounds() {
        for (timeout, hedge_delay) in [(1, 500), (6, 600), (30, 3000), (3600, 3000)] {
            assert_eq!(delay(Duration::from_secs(timeout)), Duration::from_millis(hedge_delay));
        }
    }
}
