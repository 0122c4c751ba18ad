//! A file that changes to a key that the endpoint refuses, or does not answer.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use super::{MINUTE, SECOND, bearer};
use crate::{
    background::Background,
    credentials::{Credential, FetchError, FetchErrorKind, Readiness, Token, TokenSource},
    file_watch::FileWatch,
};

mod unanswered;

/// A token endpoint that accepts some keys, and records each request.
#[derive(Clone, Default)]
struct Endpoint {
    /// The lifetime of the tokens; an hour by default.
    lifetime: Option<Duration>,
    accepted: Arc<Mutex<BTreeSet<String>>>,
    /// The keys whose requests get no response yet.
    unanswered: Arc<Mutex<BTreeSet<String>>>,
    requests: Arc<Mutex<Vec<(Instant, String)>>>,
}

/// A key. Its file holds only its name.
struct Key {
    endpoint: Endpoint,
    name: String,
}

impl TokenSource for Key {
    async fn fetch(&self) -> Result<Token, FetchError> {
        self.endpoint.requests.lock().expect("not poisoned").push((Instant::now(), self.name.clone()));
        while self.endpoint.unanswered.lock().expect("not poisoned").contains(&self.name) {
            sleep(SECOND / 10).await;
        }
        if !self.endpoint.accepted.lock().expect("not poisoned").contains(&self.name) {
            return Err(FetchError::new(FetchErrorKind::Refused, format!("unknown {}", self.name)));
        }
        Token::new(self.name.clone().into(), self.endpoint.lifetime.unwrap_or(60 * MINUTE))
    }

    fn reload(&self, content: &[u8]) -> Result<Self, String> {
        let name = String::from_utf8(content.to_vec()).expect("text");
        if name == "broken" { Err(name) } else { Ok(Self { endpoint: self.endpoint.clone(), name }) }
    }
}

impl Endpoint {
    fn accept(&self, key: &str) {
        self.accepted.lock().expect("not poisoned").insert(key.to_owned());
    }

    fn refuse(&self, key: &str) {
        self.accepted.lock().expect("not poisoned").remove(key);
    }

    /// The number of requests with a key since the previous call of this function.
    fn requests(&self, key: &str) -> usize {
        self.requests.lock().expect("not poisoned").extract_if(.., |(_, name)| name == key).count()
    }

    /// A credential whose file holds `key`.
    fn credential_with(&self, key: &str) -> (Credential, NamedTempFile) {
        let file = NamedTempFile::new().expect("a file");
        write(&file, key);
        let (watch, _) = FileWatch::open(file.path()).expect("a file");
        let key = Key { endpoint: self.clone(), name: key.to_owned() };
        (Credential::with_source("test", key, Some(watch), &Background::unsupervised()), file)
    }
}

fn write(file: &NamedTempFile, key: &str) {
    let new = file.path().with_extension("new");
    std::fs::write(&new, key).expect("written");
    std::fs::rename(&new, file.path()).expect("renamed");
}

#[tokio::test(start_paused = true)]
async fn the_old_key_stays_active_while_the_new_one_is_refused() {
    let endpoint = Endpoint::default();
    endpoint.accept("old");
    let (credential, file) = endpoint.credential_with("old");
    sleep(SECOND).await;
    write(&file, "new");
    for _ in 0..5 * 60 {
        sleep(MINUTE).await;
        assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer old"));
        assert_eq!(credential.status().readiness(), Readiness::Ready);
    }
    let renewals = endpoint.requests("old");
    assert!((5..=7).contains(&renewals), "the renewals that are due: {renewals}");
    let attempts = endpoint.requests("new");
    assert!((5 * 60..15 * 60).contains(&attempts), "retried with pauses: {attempts}");
    let status = credential.status();
    assert_eq!((status.cause(), status.changed_file()), (None, Some("unknown new")));
    let text = status.to_string();
    assert!(
        text.starts_with("valid for ") && text.ends_with("; the changed file gives no token: unknown new"),
        "{text}"
    );

    endpoint.accept("new");
    sleep(MINUTE + SECOND).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
    let status = credential.status();
    assert_eq!((status.cause(), status.changed_file()), (None, None));
    endpoint.refuse("old");
    sleep(120 * MINUTE).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
    assert_eq!(endpoint.requests("old"), 0, "the old key is no longer used");
}

#[tokio::test(start_paused = true)]
async fn two_refused_keys_are_both_retried() {
    for accepted in ["old", "new"] {
        let endpoint = Endpoint::default();
        endpoint.accept("old");
        let (credential, file) = endpoint.credential_with("old");
        sleep(SECOND).await;
        endpoint.refuse("old");
        write(&file, "new");
        sleep(70 * MINUTE).await;
        let refused = bearer(&credential).await.expect_err("no token is left");
        assert!(refused.retry_after <= 5 * SECOND, "{refused:?}");
        let text = credential.status().to_string();
        let causes = "unknown old; the changed file gives no token: unknown new";
        assert!(text.starts_with(&format!("no valid token: {causes} (for ")), "{text}");
        endpoint.accept(accepted);
        sleep(5 * SECOND + Duration::from_millis(2)).await;
        assert_eq!(bearer(&credential).await, Ok(format!("Bearer {accepted}")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_renewed_with_the_old_key_while_the_new_one_is_refused() {
    let endpoint = Endpoint::default();
    endpoint.accept("old");
    let (credential, file) = endpoint.credential_with("old");
    sleep(SECOND).await;
    write(&file, "new");
    sleep(MINUTE).await;
    assert!(endpoint.requests("new") > 1);
    let rejected = credential.authorization().await.expect("a token");
    assert!(credential.renewed(&rejected).await.expect("a token").is_some());
    assert_eq!(endpoint.requests("old"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_causes_an_attempt_with_the_changed_key_at_once() {
    let endpoint = Endpoint::default();
    endpoint.accept("old");
    let (credential, file) = endpoint.credential_with("old");
    sleep(SECOND).await;
    write(&file, "new");
    sleep(10 * MINUTE).await;
    endpoint.accept("new");
    endpoint.refuse("old");
    let rejected = credential.authorization().await.expect("a token");
    let start = Instant::now();
    assert!(credential.renewed(&rejected).await.expect("a token").is_some());
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_not_retried_after_its_file_changes() {
    for (third, token) in [("broken", "Bearer old"), ("third", "Bearer third")] {
        let endpoint = Endpoint::default();
        endpoint.accept("old");
        endpoint.accept("third");
        let (credential, file) = endpoint.credential_with("old");
        sleep(SECOND).await;
        write(&file, "new");
        sleep(MINUTE).await;
        write(&file, third);
        sleep(3 * SECOND).await;
        assert!(endpoint.requests("new") > 1);
        endpoint.accept("new");
        sleep(60 * MINUTE).await;
        assert_eq!(endpoint.requests("new"), 0);
        assert_eq!(bearer(&credential).await.as_deref(), Ok(token));
        let status = credential.status();
        let broken = "it is broken, and the old one stays in use: broken";
        assert_eq!(status.changed_file(), (third == "broken").then_some(broken));
        assert_eq!((status.cause(), status.readiness()), (None, Readiness::Ready));
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_key_replaces_a_key_without_a_token_at_once() {
    let endpoint = Endpoint::default();
    endpoint.accept("new");
    let (credential, file) = endpoint.credential_with("old");
    credential.readiness_after(Readiness::Starting).await;
    write(&file, "new");
    sleep(3 * SECOND).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
    endpoint.requests("old");
    sleep(60 * MINUTE).await;
    assert_eq!(endpoint.requests("old"), 0);
}
