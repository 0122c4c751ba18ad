//! A file that changes to what the endpoint refuses, or does not answer.

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

mod silence;

/// A token endpoint that knows some keys, and remembers which it was shown, and when.
#[derive(Clone, Default)]
struct Endpoint {
    /// An hour, if not another.
    lifetime: Option<Duration>,
    known: Arc<Mutex<BTreeSet<String>>>,
    /// The keys that it does not answer as yet.
    unanswered: Arc<Mutex<BTreeSet<String>>>,
    shown: Arc<Mutex<Vec<(Instant, String)>>>,
}

/// A key, which is all that its file holds.
struct Key {
    endpoint: Endpoint,
    name: String,
}

impl TokenSource for Key {
    async fn fetch(&self) -> Result<Token, FetchError> {
        self.endpoint.shown.lock().expect("not poisoned").push((Instant::now(), self.name.clone()));
        while self.endpoint.unanswered.lock().expect("not poisoned").contains(&self.name) {
            sleep(SECOND / 10).await;
        }
        if !self.endpoint.known.lock().expect("not poisoned").contains(&self.name) {
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
    fn know(&self, key: &str) {
        self.known.lock().expect("not poisoned").insert(key.to_owned());
    }

    fn forget(&self, key: &str) {
        self.known.lock().expect("not poisoned").remove(key);
    }

    /// How often it has been shown a key since it was last asked.
    fn shown(&self, key: &str) -> usize {
        self.shown.lock().expect("not poisoned").extract_if(.., |(_, shown)| shown == key).count()
    }

    /// A credential whose file holds `key`.
    fn holder_of(&self, key: &str) -> (Credential, NamedTempFile) {
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
    endpoint.know("old");
    let (credential, file) = endpoint.holder_of("old");
    sleep(SECOND).await;
    write(&file, "new");
    for _ in 0..5 * 60 {
        sleep(MINUTE).await;
        assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer old"));
        assert_eq!(credential.status().readiness(), Readiness::Ready);
    }
    let renewals = endpoint.shown("old");
    assert!((5..=7).contains(&renewals), "no more than is due: {renewals}");
    let attempts = endpoint.shown("new");
    assert!((5 * 60..15 * 60).contains(&attempts), "again and again, and with pauses: {attempts}");
    let status = credential.status();
    assert_eq!((status.cause(), status.changed_file()), (None, Some("unknown new")));
    let told = status.to_string();
    assert!(told.ends_with("s; the changed file gives no token: unknown new"), "{told}");

    endpoint.know("new");
    sleep(MINUTE + SECOND).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
    let status = credential.status();
    assert_eq!((status.cause(), status.changed_file()), (None, None));
    endpoint.forget("old");
    sleep(120 * MINUTE).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
    assert_eq!(endpoint.shown("old"), 0, "it is forgotten");
}

#[tokio::test(start_paused = true)]
async fn while_both_are_refused_both_are_retried() {
    for mended in ["old", "new"] {
        let endpoint = Endpoint::default();
        endpoint.know("old");
        let (credential, file) = endpoint.holder_of("old");
        sleep(SECOND).await;
        endpoint.forget("old");
        write(&file, "new");
        sleep(70 * MINUTE).await;
        let refused = bearer(&credential).await.expect_err("no token is left");
        assert!(refused.retry_after <= 5 * SECOND, "{refused:?}");
        let told = credential.status().to_string();
        let causes = "unknown old; the changed file gives no token: unknown new";
        assert!(told.starts_with(&format!("no valid token: {causes} (for ")), "{told}");
        endpoint.know(mended);
        sleep(5 * SECOND + Duration::from_millis(2)).await;
        assert_eq!(bearer(&credential).await, Ok(format!("Bearer {mended}")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_google_rejects_is_renewed_by_the_old_one() {
    let endpoint = Endpoint::default();
    endpoint.know("old");
    let (credential, file) = endpoint.holder_of("old");
    sleep(SECOND).await;
    write(&file, "new");
    sleep(MINUTE).await;
    assert!(endpoint.shown("new") > 1);
    let rejected = credential.authorization().await.expect("a token");
    assert!(credential.renewed(&rejected).await.expect("a token").is_some());
    assert_eq!(endpoint.shown("old"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_google_rejects_makes_an_attempt_with_the_changed_key_due() {
    let endpoint = Endpoint::default();
    endpoint.know("old");
    let (credential, file) = endpoint.holder_of("old");
    sleep(SECOND).await;
    write(&file, "new");
    sleep(10 * MINUTE).await;
    endpoint.know("new");
    endpoint.forget("old");
    let rejected = credential.authorization().await.expect("a token");
    let asked = Instant::now();
    assert!(credential.renewed(&rejected).await.expect("a token").is_some());
    assert!(asked.elapsed() < SECOND, "{:?}", asked.elapsed());
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_that_its_file_no_longer_holds_is_not_retried() {
    for (third, token) in [("broken", "Bearer old"), ("third", "Bearer third")] {
        let endpoint = Endpoint::default();
        endpoint.know("old");
        endpoint.know("third");
        let (credential, file) = endpoint.holder_of("old");
        sleep(SECOND).await;
        write(&file, "new");
        sleep(MINUTE).await;
        write(&file, third);
        sleep(3 * SECOND).await;
        assert!(endpoint.shown("new") > 1);
        endpoint.know("new");
        sleep(60 * MINUTE).await;
        assert_eq!(endpoint.shown("new"), 0);
        assert_eq!(bearer(&credential).await.as_deref(), Ok(token));
        let status = credential.status();
        let broken = "it is broken, and the old one stays in use: broken";
        assert_eq!(status.changed_file(), (third == "broken").then_some(broken));
        assert_eq!((status.cause(), status.readiness()), (None, Readiness::Ready));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_token_is_replaced_at_once() {
    let endpoint = Endpoint::default();
    endpoint.know("new");
    let (credential, file) = endpoint.holder_of("old");
    credential.readiness_after(Readiness::Starting).await;
    write(&file, "new");
    sleep(3 * SECOND).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer new"));
    endpoint.shown("old");
    sleep(60 * MINUTE).await;
    assert_eq!(endpoint.shown("old"), 0);
}
