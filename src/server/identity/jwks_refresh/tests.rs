//! Tests of the refresh, with a paused clock.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, advance, sleep};

use super::{FETCH_TIMEOUT, IssuerKeys, KeySource, MIN_FETCH_INTERVAL, REFRESH_INTERVAL, Renewal};
use crate::{
    background::Background,
    file_watch::FileWatch,
    server::identity::{
        issuer::{Key, key_set},
        jwks::{Algorithm, JwksFetchError, KeyFile, KeySet},
    },
};

/// The result of one fetch.
enum Fetch {
    Set(String),
    Fails,
    Hangs,
}

/// Returns the results in order, and then repeats the last one.
#[derive(Clone, Default)]
struct ScriptedSource {
    fetches: Arc<Mutex<VecDeque<Fetch>>>,
    times: Arc<Mutex<Vec<Instant>>>,
}

impl ScriptedSource {
    fn new(fetches: impl IntoIterator<Item = Fetch>) -> Self {
        let fetches = Arc::new(Mutex::new(fetches.into_iter().collect()));
        Self { fetches, times: Arc::default() }
    }

    fn count(&self) -> usize {
        self.times.lock().unwrap().len()
    }

    fn start(&self) -> IssuerKeys {
        IssuerKeys::fetched(self.clone(), Algorithm::ALL.to_vec(), &Background::unsupervised())
    }
}

impl KeySource for ScriptedSource {
    async fn fetch(&self) -> Result<Vec<u8>, JwksFetchError> {
        self.times.lock().unwrap().push(Instant::now());
        let next = {
            let mut fetches = self.fetches.lock().unwrap();
            match fetches.len() {
                0 => panic!("no fetch was expected"),
                1 => match &fetches[0] {
                    Fetch::Set(set) => Fetch::Set(set.clone()),
                    Fetch::Fails => Fetch::Fails,
                    Fetch::Hangs => Fetch::Hangs,
                },
                _ => fetches.pop_front().unwrap(),
            }
        };
        match next {
            Fetch::Set(set) => Ok(set.into_bytes()),
            Fetch::Fails => Err(JwksFetchError::Status(503)),
            Fetch::Hangs => std::future::pending().await,
        }
    }
}

fn set(names: &[&str]) -> Fetch {
    Fetch::Set(key_set(names.iter().map(|name| Key::ec().jwk(Some(name)))))
}

fn has(keys: &IssuerKeys, name: &str) -> bool {
    keys.current().keys.is_some_and(|keys| keys.candidates(Some(name)).next().is_some())
}

#[tokio::test(start_paused = true)]
async fn callers_wait_for_the_first_fetch_and_share_it() {
    let source = ScriptedSource::new([set(&["a"])]);
    let keys = source.start();
    assert_eq!(keys.renewal(), Renewal::Worthwhile);
    let waiting: Vec<_> = (0..100).map(|_| keys.renewed()).collect();
    futures_util::future::join_all(waiting).await;
    assert!(has(&keys, "a"));
    assert_eq!((source.count(), keys.renewal()), (1, Renewal::Useless));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_causes_at_most_one_fetch_per_minimum_interval() {
    let source = ScriptedSource::new([set(&["a"]), set(&["a", "b"])]);
    let keys = source.start();
    keys.renewed().await;
    let generation = keys.generation();
    advance(MIN_FETCH_INTERVAL).await;

    assert_eq!(keys.renewal(), Renewal::Worthwhile);
    let start = Instant::now();
    let waiting: Vec<_> = (0..100).map(|_| keys.renewed()).collect();
    futures_util::future::join_all(waiting).await;
    assert!(has(&keys, "b") && keys.generation() > generation);
    assert_eq!((source.count(), start.elapsed(), keys.renewal()), (2, Duration::ZERO, Renewal::Useless));
    sleep(MIN_FETCH_INTERVAL - Duration::from_millis(1)).await;
    assert_eq!((source.count(), keys.renewal()), (2, Renewal::Useless));
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_at_the_interval() {
    let source = ScriptedSource::new([set(&["a"]), set(&["b"])]);
    let keys = source.start();
    keys.renewed().await;
    sleep(REFRESH_INTERVAL).await;
    assert!(has(&keys, "b") && !has(&keys, "a"));
}

#[tokio::test(start_paused = true)]
async fn the_same_set_keeps_its_generation() {
    let source = ScriptedSource::new([set(&["a"])]);
    let keys = source.start();
    keys.renewed().await;
    let generation = keys.generation();
    sleep(3 * REFRESH_INTERVAL).await;
    assert!(source.count() > 3);
    assert_eq!(keys.generation(), generation);
}

#[tokio::test(start_paused = true)]
async fn failed_first_fetches_are_retried_after_a_known_time() {
    let source = ScriptedSource::new([Fetch::Fails, Fetch::Fails, Fetch::Fails, set(&["a"])]);
    let keys = source.start();
    keys.renewed().await;
    let Renewal::Failing { retry_after } = keys.renewal() else { panic!("{:?}", keys.renewal()) };
    assert!(!retry_after.is_zero() && retry_after <= Duration::from_millis(500));
    // At most 0.5, 1 and 2 s.
    sleep(Duration::from_secs(4)).await;
    assert!(has(&keys, "a"));
    assert_eq!(source.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_times_out_is_a_failure() {
    let source = ScriptedSource::new([Fetch::Hangs]);
    let keys = source.start();
    let start = Instant::now();
    keys.renewed().await;
    assert_eq!(start.elapsed(), FETCH_TIMEOUT);
    assert!(matches!(keys.renewal(), Renewal::Failing { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_old_set_stays_active_while_fetches_fail() {
    let garbage = Fetch::Set("<html>".to_owned());
    let empty = Fetch::Set(key_set([]));
    let source = ScriptedSource::new([set(&["a"]), garbage, empty, Fetch::Fails]);
    let keys = source.start();
    keys.renewed().await;
    let generation = keys.generation();
    sleep(10 * REFRESH_INTERVAL).await;
    assert!(source.count() > 3 && has(&keys, "a"));
    assert_eq!(keys.generation(), generation);
    // A fetch may return a new key.
    assert!(matches!(keys.renewal(), Renewal::Failing { .. }));
    // The pause is limited.
    let times = source.times.lock().unwrap().clone();
    let last = times.windows(2).last().unwrap();
    assert!(last[1] - last[0] <= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn the_drop_of_the_keys_ends_the_task_without_a_report() {
    let (background, mut exits) = Background::new();
    let source = ScriptedSource::new([set(&["a"])]);
    let keys = IssuerKeys::fetched(source, Algorithm::ALL.to_vec(), &background);
    keys.renewed().await;
    let mut state = keys.state.clone();
    drop(keys);
    state.wait_for(|_| false).await.expect_err("the task has dropped its sender");
    background.spawn("returns", async {});
    assert_eq!(exits.next().await, "returns");
}

#[tokio::test]
async fn a_changed_file_is_reloaded_unless_it_is_invalid() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    let write = |content: &Fetch| {
        let Fetch::Set(content) = content else { panic!("no set") };
        let new = directory.path().join("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    write(&set(&["a"]));
    let background = Background::unsupervised();
    let (watch, content) = FileWatch::open(&file).unwrap();
    let loaded =
        KeyFile { path: file.clone(), watch, keys: KeySet::parse(&content, &Algorithm::ALL).unwrap() };
    let keys = IssuerKeys::of_file(loaded, Algorithm::ALL.to_vec(), &background);
    assert!(has(&keys, "a"));
    assert_eq!(keys.renewal(), Renewal::Useless);
    let mut state = keys.state.clone();
    write(&Fetch::Set("{".to_owned()));
    write(&set(&["b"]));
    state.wait_for(|state| state.current.generation > 0).await.unwrap();
    assert!(has(&keys, "b"));
    drop(keys);
    state.wait_for(|_| false).await.expect_err("the task has dropped its sender");
}
