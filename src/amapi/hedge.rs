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
/// starts the hedge, and is called after each poll of `first` until it returns one. A hedge that ends with `None` was not
/// sent.
pub(super) async fn first_success<'a, T, E>(
    mut first: Pin<&mut impl Future<Output = Result<T, E>>>,
    mut hedge: impl FnMut() -> Option<BoxFuture<'a, Option<Result<T, E>>>>,
) -> Result<T, E> {
    let mut first_error = None;
    let mut second = Second::NotStarted;
    poll_fn(|cx| {
        if first_error.is_none()
            && let Poll::Ready(result) = first.as_mut().poll(cx)
        {
            match result {
                Err(error) if matches!(second, Second::InFlight(_)) => first_error = Some(error),
                result => return Poll::Ready(result),
            }
        }
        if matches!(second, Second::NotStarted)
            && let Some(request) = hedge()
        {
            second = Second::InFlight(request);
        }
        if let Second::InFlight(request) = &mut second
            && let Poll::Ready(result) = request.as_mut().poll(cx)
        {
            match (result, first_error.take()) {
                (Some(result), Some(_)) | (Some(result @ Ok(_)), None) => return Poll::Ready(result),
                (None, Some(error)) => return Poll::Ready(Err(error)),
                (Some(Err(_)) | None, None) => second = Second::Failed,
            }
        }
        Poll::Pending
    })
    .await
}

/// The state of the hedge.
enum Second<'a, T> {
    NotStarted,
    InFlight(BoxFuture<'a, T>),
    Failed,
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use tokio::time::{Instant, sleep};

    use super::{delay, first_success};

    /// The result of two requests, each with its seconds and its result. The hedge starts at once.
    async fn race(first: (u64, Result<u8, u8>), second: (u64, Result<u8, u8>)) -> (Result<u8, u8>, u64) {
        race_with(first, (second.0, Some(second.1))).await
    }

    /// As [`race`]. A hedge without a result is not sent.
    async fn race_with(
        first: (u64, Result<u8, u8>),
        second: (u64, Option<Result<u8, u8>>),
    ) -> (Result<u8, u8>, u64) {
        let first = async {
            sleep(Duration::from_secs(first.0)).await;
            first.1
        };
        let hedge = async || {
            sleep(Duration::from_secs(second.0)).await;
            second.1
        };
        let start = Instant::now();
        let result = first_success(pin!(first), || Some(Box::pin(hedge()))).await;
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
    async fn a_hedge_that_is_not_sent_leaves_the_first_request_to_decide() {
        assert_eq!(race_with((2, Ok(1)), (1, None)).await, (Ok(1), 2));
        assert_eq!(race_with((2, Err(1)), (1, None)).await, (Err(1), 2));
        assert_eq!(race_with((1, Err(1)), (2, None)).await, (Err(1), 2));
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
