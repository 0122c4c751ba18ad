//! When keys are fetched, and what is used meanwhile. Time stands still but for what is waited for.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, advance, sleep};

use super::{FETCH_TIMEOUT, Keys, PAUSE, REFRESH_EVERY, Renewal, Source};
use crate::server::identity::{
    issuer::{Key, key_set},
    jwks::{Algorithm, FetchError},
};

/// What one fetch comes to.
enum Fetch {
    Set(String),
    Fails,
    Hangs,
}

/// Answers by a script, and then as the last time.
#[derive(Clone, Default)]
struct Script {
    fetches: Arc<Mutex<VecDeque<Fetch>>>,
    times: Arc<Mutex<Vec<Instant>>>,
}

impl Script {
    fn new(fetches: impl IntoIterator<Item = Fetch>) -> Self {
        let fetches = Arc::new(Mutex::new(fetches.into_iter().collect()));
        Self { fetches, times: Arc::default() }
    }

    fn count(&self) -> usize {
        self.times.lock().unwrap().len()
    }

    /// The keys of this script, with the task that fetches them.
    fn start(&self) -> Keys {
        let (keys, task) = Keys::fetched(self.clone(), Algorithm::ALL.to_vec());
        tokio::spawn(task);
        keys
    }
}

impl Source for Script {
    async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
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
            Fetch::Fails => Err(FetchError::Status(503)),
            Fetch::Hangs => std::future::pending().await,
        }
    }
}

fn set(names: &[&str]) -> Fetch {
    Fetch::Set(key_set(names.iter().map(|name| Key::ec().jwk(Some(name)))))
}

fn has(keys: &Keys, name: &str) -> bool {
    keys.current().keys.is_some_and(|keys| keys.named(Some(name)).next().is_some())
}

#[tokio::test(start_paused = true)]
async fn the_first_fetch_is_waited_for_and_shared() {
    let script = Script::new([set(&["a"])]);
    let keys = script.start();
    assert_eq!(keys.renewal(), Renewal::Worthwhile);
    let waiting: Vec<_> = (0..100).map(|_| keys.renewed()).collect();
    futures_util::future::join_all(waiting).await;
    assert!(has(&keys, "a"));
    assert_eq!((script.count(), keys.renewal()), (1, Renewal::Useless));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_asked_for_once_and_not_at_once_again() {
    let script = Script::new([set(&["a"]), set(&["a", "b"])]);
    let keys = script.start();
    keys.renewed().await;
    let generation = keys.generation();
    advance(PAUSE).await;

    assert_eq!(keys.renewal(), Renewal::Worthwhile);
    let start = Instant::now();
    let waiting: Vec<_> = (0..100).map(|_| keys.renewed()).collect();
    futures_util::future::join_all(waiting).await;
    assert!(has(&keys, "b") && keys.generation() > generation);
    assert_eq!((script.count(), start.elapsed(), keys.renewal()), (2, Duration::ZERO, Renewal::Useless));
    sleep(PAUSE - Duration::from_millis(1)).await;
    assert_eq!((script.count(), keys.renewal()), (2, Renewal::Useless));
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_without_being_asked_for() {
    let script = Script::new([set(&["a"]), set(&["b"])]);
    let keys = script.start();
    keys.renewed().await;
    sleep(REFRESH_EVERY).await;
    assert!(has(&keys, "b") && !has(&keys, "a"));
}

#[tokio::test(start_paused = true)]
async fn the_same_set_is_no_other() {
    let script = Script::new([set(&["a"])]);
    let keys = script.start();
    keys.renewed().await;
    let generation = keys.generation();
    sleep(3 * REFRESH_EVERY).await;
    assert!(script.count() > 3);
    assert_eq!(keys.generation(), generation);
}

#[tokio::test(start_paused = true)]
async fn without_any_keys_it_is_tried_on_and_said_when() {
    let script = Script::new([Fetch::Fails, Fetch::Fails, Fetch::Fails, set(&["a"])]);
    let keys = script.start();
    keys.renewed().await;
    let Renewal::Failing { retry_after } = keys.renewal() else { panic!("{:?}", keys.renewal()) };
    assert!(!retry_after.is_zero() && retry_after <= Duration::from_millis(500));
    // 0.5, 1 and 2 s at most.
    sleep(Duration::from_secs(4)).await;
    assert!(has(&keys, "a"));
    assert_eq!(script.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_in_time_has_failed() {
    let script = Script::new([Fetch::Hangs]);
    let keys = script.start();
    let start = Instant::now();
    keys.renewed().await;
    assert_eq!(start.elapsed(), FETCH_TIMEOUT);
    assert!(matches!(keys.renewal(), Renewal::Failing { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_old_set_stays_in_use_while_no_newer_one_can_be_had() {
    let garbage = Fetch::Set("<html>".to_owned());
    let empty = Fetch::Set(key_set([]));
    let script = Script::new([set(&["a"]), garbage, empty, Fetch::Fails]);
    let keys = script.start();
    keys.renewed().await;
    let generation = keys.generation();
    sleep(10 * REFRESH_EVERY).await;
    assert!(script.count() > 3 && has(&keys, "a"));
    assert_eq!(keys.generation(), generation);
    // Whether there is a new key, nobody can say.
    assert!(matches!(keys.renewal(), Renewal::Failing { .. }));
    // However long it fails, the pause is bounded.
    let times = script.times.lock().unwrap().clone();
    let last = times.windows(2).last().unwrap();
    assert!(last[1] - last[0] <= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_keys() {
    let (keys, task) = Keys::fetched(Script::new([set(&["a"])]), Algorithm::ALL.to_vec());
    let task = tokio::spawn(task);
    keys.renewed().await;
    drop(keys);
    task.await.unwrap();
}

#[tokio::test]
async fn a_file_is_taken_up_when_it_changes_and_a_broken_one_is_not() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("jwks.json");
    let write = |content: &Fetch| {
        let Fetch::Set(content) = content else { panic!("no set") };
        let new = room.path().join("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    write(&set(&["a"]));
    let (keys, task) = Keys::of_file(file.clone(), Algorithm::ALL.to_vec()).unwrap();
    let task = tokio::spawn(task);
    assert!(has(&keys, "a"));
    assert_eq!(keys.renewal(), Renewal::Useless);
    let mut state = keys.state.clone();
    write(&Fetch::Set("{".to_owned()));
    write(&set(&["b"]));
    state.wait_for(|state| state.current.generation > 0).await.unwrap();
    assert!(has(&keys, "b"));
    drop((keys, state));
    task.await.unwrap();
}
