//! An endpoint that does not answer the requests with one key. Requests with other keys are not delayed.

use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use super::{Endpoint, SECOND, bearer, write};
use crate::credentials::Credential;

impl Endpoint {
    fn leave_unanswered(&self, key: &str) {
        self.unanswered.lock().expect("not poisoned").insert(key.to_owned());
    }

    fn answer(&self, key: &str) {
        self.unanswered.lock().expect("not poisoned").remove(key);
    }

    /// The times of the requests with a key.
    fn times(&self, key: &str) -> Vec<Instant> {
        let requests = self.requests.lock().expect("not poisoned");
        requests.iter().filter(|(_, name)| name == key).map(|(at, _)| *at).collect()
    }
}

/// A credential whose file has changed from an accepted key to an unanswered one.
async fn credential_with_an_unanswered_change(endpoint: &Endpoint) -> (Credential, NamedTempFile) {
    endpoint.accept("old");
    endpoint.leave_unanswered("new");
    let (credential, file) = endpoint.credential_with("old");
    sleep(SECOND).await;
    write(&file, "new");
    sleep(4 * SECOND).await;
    assert_eq!(endpoint.times("new").len(), 1, "in progress");
    (credential, file)
}

/// The pauses between the times.
fn pauses(times: &[Instant]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_renewed_at_once() {
    let endpoint = Endpoint::default();
    let (credential, _file) = credential_with_an_unanswered_change(&endpoint).await;
    for _ in 0..10 {
        let rejected = credential.authorization().await.expect("a token");
        let start = Instant::now();
        assert!(credential.renewed(&rejected).await.expect("a token").is_some());
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
        sleep(7 * SECOND).await;
    }
    assert_eq!(endpoint.times("old").len(), 11);
    let attempts = pauses(&endpoint.times("new"));
    assert!(attempts.len() > 1, "the changed key is retried");
    assert!(attempts.iter().all(|pause| *pause > 10 * SECOND), "one at a time: {attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_due_is_not_late() {
    let endpoint = Endpoint { lifetime: Some(12 * SECOND), ..Endpoint::default() };
    let (credential, _file) = credential_with_an_unanswered_change(&endpoint).await;
    sleep(60 * SECOND).await;
    let renewals = pauses(&endpoint.times("old"));
    assert!(renewals.len() > 8, "{renewals:?}");
    let latest = 6 * SECOND + Duration::from_millis(2);
    assert!(renewals.iter().all(|pause| *pause <= latest), "{renewals:?}");
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer old"));
}

#[tokio::test(start_paused = true)]
async fn a_late_response_still_makes_the_new_key_active() {
    let endpoint = Endpoint::default();
    let (credential, _file) = credential_with_an_unanswered_change(&endpoint).await;
    let rejected = credential.authorization().await.expect("a token");
    let renewed = credential.renewed(&rejected).await.expect("a token").expect("renewed");
    assert_eq!(renewed.header(), "Bearer old");
    endpoint.accept("new");
    endpoint.answer("new");
    sleep(SECOND).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
    assert_eq!(endpoint.times("new").len(), 1, "the attempt that was in progress");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_in_progress_ends_when_its_key_is_replaced() {
    let endpoint = Endpoint::default();
    let (credential, _file) = credential_with_an_unanswered_change(&endpoint).await;
    endpoint.leave_unanswered("old");
    let rejected = credential.authorization().await.expect("a token");
    let waiting = tokio::spawn({
        let credential = credential.clone();
        async move { credential.renewed(&rejected).await }
    });
    sleep(SECOND).await;
    endpoint.accept("new");
    endpoint.answer("new");
    let renewed = waiting.await.expect("no panic").expect("a token").expect("renewed");
    assert_eq!(renewed.header(), "Bearer new", "the caller gets the token of the new key");
    endpoint.answer("old");
    sleep(SECOND).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
}

#[tokio::test(start_paused = true)]
async fn a_second_change_does_not_wait_for_the_first() {
    let endpoint = Endpoint::default();
    let (credential, file) = credential_with_an_unanswered_change(&endpoint).await;
    endpoint.accept("third");
    write(&file, "third");
    sleep(4 * SECOND).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer third"));
    endpoint.accept("new");
    endpoint.answer("new");
    sleep(60 * SECOND).await;
    assert_eq!(
        bearer(&credential).await.as_deref(),
        Ok("Bearer third"),
        "the attempt with the second key was dropped"
    );
    let status = credential.status();
    assert_eq!((status.cause(), status.changed_file()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_changed_key_replaces_an_unanswered_first_key() {
    let endpoint = Endpoint::default();
    endpoint.leave_unanswered("old");
    endpoint.accept("new");
    let (credential, file) = endpoint.credential_with("old");
    sleep(SECOND).await;
    write(&file, "new");
    let start = Instant::now();
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
    assert!(start.elapsed() <= 4 * SECOND, "{:?}", start.elapsed());
}
