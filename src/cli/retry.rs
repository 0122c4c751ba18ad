//! The pauses between the attempts of a call.

use std::time::Duration;

use tonic::Code;

use super::error::ClientError;

/// The first pause between calls about an unfinished operation, as in Google's own clients.
pub(super) const FIRST_POLL_PAUSE: Duration = Duration::from_secs(1);

/// The first pause after a transient error.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The first pause after an exhausted quota. Google's quota is one of 100 s, so an earlier call would be refused too.
const FIRST_QUOTA_PAUSE: Duration = Duration::from_secs(1);

/// The maximum pause that the client chooses.
const MAX_PAUSE: Duration = Duration::from_secs(20);

/// The maximum pause that a server can request, so that no time overflows the clock.
const MAX_REQUESTED_PAUSE: Duration = Duration::from_secs(3600);

/// The pause after a transient error and `retries` earlier attempts, at least the one that the server requests.
pub(super) fn pause(error: &ClientError, retries: i32) -> Duration {
    let first = if error.code() == Code::ResourceExhausted { FIRST_QUOTA_PAUSE } else { FIRST_RETRY_PAUSE };
    backoff(first, retries).max(requested_pause(error))
}

/// The pause that the server requests; zero if it requests none.
pub(super) fn requested_pause(error: &ClientError) -> Duration {
    error.retry_delay().unwrap_or_default().min(MAX_REQUESTED_PAUSE)
}

/// The pause after `repeats` earlier pauses. Each pause is 1.5 times the previous one. Up to a tenth is subtracted at
/// random, so that clients do not synchronize.
pub(super) fn backoff(first: Duration, repeats: i32) -> Duration {
    let pause = (first.as_secs_f64() * 1.5f64.powi(repeats)).min(MAX_PAUSE.as_secs_f64());
    Duration::from_secs_f64(pause * (1.0 - fastrand::f64() / 10.0))
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn a_pause_depends_on_the_error_and_the_earlier_attempts() {
        let requested = |code, delay| {
            let details = ErrorDetails::with_retry_info(delay);
            ClientError::new(Status::with_error_details(code, "", details), Exit::Failed)
        };
        let hour = Duration::from_secs(3600);
        for (error, retries, wanted) in [
            (requested(Code::Unavailable, None), 0, 0.2),
            (requested(Code::Unavailable, None), 2, 0.45),
            (requested(Code::ResourceExhausted, None), 0, 1.0),
            (requested(Code::ResourceExhausted, None), i32::MAX, 20.0),
        ] {
            let pause = pause(&error, retries).as_secs_f64();
            assert!((wanted * 0.89..=wanted * 1.01).contains(&pause), "{error:?}: {pause}");
        }
        for (delay, wanted) in [(Duration::from_secs(7), Duration::from_secs(7)), (Duration::MAX, hour)] {
            assert_eq!(pause(&requested(Code::Unavailable, Some(delay)), 0), wanted);
        }
    }
}
