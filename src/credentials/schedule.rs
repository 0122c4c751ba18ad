//! The time of the next fetch: the renewal of a token, and the backoff after failures.

use std::time::Duration;

/// A token is renewed when half its lifetime, or all but this much of it, is over, whichever is later.
const BEFORE_END: Duration = Duration::from_secs(300);

/// The maximum fraction by which a renewal is earlier, so that replicas do not fetch at the same time.
const JITTER: f64 = 0.02;

/// The longest pause between failed attempts while there is a valid token.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The longest pause without a valid token, or shortly before the token ends.
const MAX_BACKOFF_WITHOUT_TOKEN: Duration = Duration::from_secs(5);

/// The pause after the first failure.
const MIN_BACKOFF: Duration = Duration::from_millis(500);

/// The time from the arrival of a token until it is renewed; `random` is in 0..1.
pub(super) fn renewal(lifetime: Duration, random: f64) -> Duration {
    let latest = (lifetime / 2).max(lifetime.saturating_sub(BEFORE_END));
    latest.mul_f64(1.0 - JITTER * random)
}

/// The pause after `failures` consecutive failures (at least one). It doubles with each failure; half of it is random.
///
/// `token_left` is the time until the token ends. A long pause ends before the token does, so that calls wait no longer
/// than they would without a token.
pub(super) fn backoff(failures: u32, token_left: Duration, random: f64) -> Duration {
    let doubled = MIN_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let pause = |max| doubled.min(max).mul_f64(0.5 + 0.5 * random);
    let until_about_to_end = token_left.saturating_sub(MAX_BACKOFF_WITHOUT_TOKEN);
    pause(MAX_BACKOFF).min(until_about_to_end).max(pause(MAX_BACKOFF_WITHOUT_TOKEN))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{backoff, renewal};

    const HOUR: Duration = Duration::from_secs(3600);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_renewed_at_half_its_lifetime_or_five_minutes_before_its_end() {
        assert_eq!(renewal(seconds(3600), 0.0), seconds(55 * 60));
        assert_eq!(renewal(seconds(65), 0.0), Duration::from_millis(32_500));
        assert_eq!(renewal(seconds(600), 0.0), seconds(300));
        let earliest = renewal(seconds(3600), 1.0);
        assert!(earliest < seconds(55 * 60) && earliest > seconds(53 * 60), "{earliest:?}");
    }

    #[test]
    fn the_backoff_doubles_with_jitter_up_to_a_maximum() {
        assert_eq!(backoff(1, HOUR, 1.0), Duration::from_millis(500));
        assert_eq!(backoff(1, HOUR, 0.0), Duration::from_millis(250));
        assert_eq!(backoff(4, HOUR, 1.0), seconds(4));
        assert_eq!(backoff(1_000_000, HOUR, 1.0), seconds(60));
        assert_eq!(backoff(1_000_000, Duration::ZERO, 1.0), seconds(5));
    }

    #[test]
    fn no_long_pause_outlasts_the_token() {
        for (left, pause) in [(66, 60), (65, 60), (64, 59), (11, 6), (9, 5), (1, 5), (0, 5)] {
            assert_eq!(backoff(1_000_000, seconds(left), 1.0), seconds(pause), "{left} s left");
        }
        assert_eq!(
            backoff(1, seconds(1), 1.0),
            Duration::from_millis(500),
            "the first pauses are short with any token"
        );
    }
}
