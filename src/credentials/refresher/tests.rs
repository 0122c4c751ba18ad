use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::background::Background;
use crate::credentials::{
    Credential, FetchError, FetchErrorKind, Readiness, Token, TokenSource, Unavailable,
};

mod outage;
mod rotation;
mod start_wait;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A source that follows a script, then returns tokens that are valid for an hour.
#[derive(Clone, Default)]
struct ScriptedSource {
    fetches: Arc<AtomicUsize>,
    steps: Arc<Mutex<VecDeque<Step>>>,
}

enum Step {
    Token { lifetime: Duration },
    Fail,
    Refuse,
    FailAfter(Duration),
    Hang,
}

impl ScriptedSource {
    fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: Arc::new(Mutex::new(steps.into_iter().collect())), ..Self::default() }
    }

    fn start(&self) -> Credential {
        Credential::with_source("test", self.clone(), None, &Background::unsupervised())
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

impl TokenSource for ScriptedSource {
    async fn fetch(&self) -> Result<Token, FetchError> {
        let nth = self.fetches.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(Duration::from_millis(100)).await;
        let step = self.steps.lock().expect("not poisoned").pop_front();
        match step.unwrap_or(Step::Token { lifetime: 60 * MINUTE }) {
            Step::Token { lifetime } => Token::new(format!("token-{nth}").into(), lifetime),
            Step::Fail => Err(FetchError::new(FetchErrorKind::Unreachable, "scripted")),
            Step::Refuse => Err(FetchError::new(FetchErrorKind::Refused, "scripted refusal")),
            Step::FailAfter(time) => {
                sleep(time).await;
                Err(FetchError::new(FetchErrorKind::Unreachable, "scripted silence"))
            }
            Step::Hang => std::future::pending().await,
        }
    }

    fn reload(&self, _: &[u8]) -> Result<Self, String> {
        Ok(self.clone())
    }
}

async fn bearer(credential: &Credential) -> Result<String, Unavailable> {
    let authorization = credential.authorization().await?;
    Ok(String::from_utf8_lossy(authorization.header().as_bytes()).into_owned())
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cold_callers_make_one_request() {
    let script = ScriptedSource::default();
    let credential = script.start();
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            tokio::spawn({
                let credential = credential.clone();
                async move { bearer(&credential).await }
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.expect("no panic").as_deref(), Ok("Bearer token-1"));
    }
    assert_eq!(script.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_ends_without_a_call() {
    let script = ScriptedSource::default();
    let credential = script.start();
    sleep(53 * MINUTE).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer token-1"));
    sleep(3 * MINUTE).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer token-2"));
    assert_eq!(script.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failing_renewal_leaves_the_token_in_use_until_it_ends() {
    let fails = std::iter::repeat_with(|| Step::Fail).take(200);
    let script = ScriptedSource::of(std::iter::once(Step::Token { lifetime: 10 * MINUTE }).chain(fails));
    let credential = script.start();
    sleep(9 * MINUTE).await;
    assert!(script.fetches() > 2, "the renewal was retried");
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer token-1"));
    assert_eq!(credential.status().readiness(), Readiness::Ready);
    sleep(2 * MINUTE).await;
    let refused = bearer(&credential).await.expect_err("no token is left");
    assert!(refused.retry_after <= MINUTE);
    assert_eq!(credential.status().readiness(), Readiness::NotReady);
    let status = credential.status();
    assert_eq!((status.cause().as_deref(), status.is_permanent()), (Some("scripted"), false));
    let time = status.without_token_for();
    assert!(time <= MINUTE + SECOND, "the time since the token ended: {time:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_without_a_token_has_the_time_until_the_next_attempt() {
    let script = ScriptedSource::of([Step::Fail, Step::Fail]);
    let credential = script.start();
    let refused = bearer(&credential).await.expect_err("the first fetch failed");
    assert!(refused.retry_after > Duration::ZERO && refused.retry_after <= SECOND, "{refused:?}");
    sleep(10 * SECOND).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer token-3"));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_times_out() {
    let start = Instant::now();
    let script = ScriptedSource::of([Step::Hang]);
    let credential = script.start();
    assert!(bearer(&credential).await.is_err());
    assert_eq!(start.elapsed(), 10 * SECOND);
    sleep(SECOND).await;
    assert_eq!(bearer(&credential).await.as_deref(), Ok("Bearer token-2"));
}

#[tokio::test(start_paused = true)]
async fn concurrent_rejections_share_one_renewal() {
    let script = ScriptedSource::default();
    let credential = script.start();
    let rejected = credential.authorization().await.expect("a token");
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (credential, rejected) = (credential.clone(), rejected.clone());
            tokio::spawn(async move { credential.renewed(&rejected).await.expect("a token").is_some() })
        })
        .collect();
    for caller in callers {
        assert!(caller.await.expect("no panic"));
    }
    assert_eq!(script.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_second_rejection_right_after_causes_no_fetch() {
    let script = ScriptedSource::default();
    let credential = script.start();
    let first = credential.authorization().await.expect("a token");
    let second = credential.renewed(&first).await.expect("a token").expect("renewed");
    assert!(credential.renewed(&second).await.expect("known").is_none());
    assert_eq!(script.fetches(), 2);
    sleep(4 * SECOND).await;
    assert!(credential.renewed(&second).await.expect("a token").is_some());
    assert_eq!(script.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_readiness_before_the_wait_is_not_missed() {
    let fails = std::iter::repeat_with(|| Step::Fail).take(200);
    let script = ScriptedSource::of(std::iter::once(Step::Token { lifetime: MINUTE }).chain(fails));
    let credential = script.start();
    let starting = credential.status().readiness();
    sleep(SECOND).await;
    let ready = timeout(SECOND, credential.readiness_after(starting)).await;
    assert_eq!(ready, Ok(Readiness::Ready), "the token arrived before the wait");
    sleep(2 * MINUTE).await;
    let ended = timeout(SECOND, credential.readiness_after(Readiness::Ready)).await;
    assert_eq!(ended, Ok(Readiness::NotReady));
}

/// A source of 20-second tokens. Each token is cached until it ends, as in the metadata server: a fetch returns its
/// remaining lifetime in whole seconds.
#[derive(Clone)]
struct CachedToEnd(Instant);

impl TokenSource for CachedToEnd {
    async fn fetch(&self) -> Result<Token, FetchError> {
        let lifetime = Duration::from_millis(20_000);
        let age = self.0.elapsed();
        let nth = age.as_millis() / lifetime.as_millis();
        let left = lifetime - Duration::from_millis((age.as_millis() % lifetime.as_millis()) as u64);
        Token::new(format!("token-{nth}").into(), Duration::from_secs(left.as_secs().max(1)))
    }

    fn reload(&self, _: &[u8]) -> Result<Self, String> {
        Ok(self.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_used_until_its_end_while_another_is_fetched() {
    let background = Background::unsupervised();
    let credential = Credential::with_source("test", CachedToEnd(Instant::now()), None, &background);
    for tenth in 0..1000 {
        let bearer = bearer(&credential).await;
        assert!(bearer.is_ok(), "after {tenth} tenths of a second: {bearer:?}");
        sleep(SECOND / 10).await;
    }
    assert_eq!(credential.status().readiness(), Readiness::Ready);
}
