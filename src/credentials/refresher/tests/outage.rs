//! An endpoint that is unavailable while a token ends.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{SECOND, bearer};
use crate::background::Background;
use crate::credentials::{Credential, FetchError, FetchErrorKind, Token, TokenSource};

/// A source that fails during an interval, measured from `begun`.
#[derive(Clone)]
struct Outage {
    begun: Instant,
    lasts: Range<Duration>,
    attempts: Arc<Mutex<Vec<Duration>>>,
}

impl TokenSource for Outage {
    async fn fetch(&self) -> Result<Token, FetchError> {
        let now = self.begun.elapsed();
        self.attempts.lock().expect("not poisoned").push(now);
        if self.lasts.contains(&now) {
            return Err(FetchError::new(FetchErrorKind::Unreachable, "scripted"));
        }
        Token::new("token".to_owned().into(), 40 * SECOND)
    }

    fn reload(&self, _: &[u8]) -> Result<Self, String> {
        Ok(self.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_began_with_a_token_ends_soon_after_the_token() {
    let half = Duration::from_millis(500);
    // Each iteration has other jitter.
    for _ in 0..50 {
        let lasts = 10 * SECOND..40 * SECOND + half;
        let outage = Outage { begun: Instant::now(), lasts, attempts: Arc::default() };
        let background = Background::unsupervised();
        let credential = Credential::with_source("test", outage.clone(), None, &background);
        sleep(45 * SECOND + half + Duration::from_millis(2)).await;
        let attempts = outage.attempts.lock().expect("not poisoned").clone();
        assert!(bearer(&credential).await.is_ok(), "{attempts:?}");
    }
}
