//! Keys that come and go.

use std::sync::Mutex;

use tokio::time::{Duration, advance};

use super::*;
use crate::server::identity::{
    jwks::{FetchError, Keys, Source},
    jwt::{Known, Rules},
};

/// What an issuer publishes; nothing while it is down.
#[derive(Clone, Default)]
struct Published(Arc<Mutex<Option<String>>>);

impl Published {
    fn set(&self, keys: impl IntoIterator<Item = Value>) {
        *self.0.lock().unwrap() = Some(key_set(keys));
    }

    fn take_down(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn tokens(&self) -> Arc<Tokens> {
        let (keys, task) = Keys::fetched(self.clone(), Algorithm::ALL.to_vec());
        tokio::spawn(task);
        let rules = Rules { issuer: ISSUER.to_owned(), audiences: vec![AUDIENCE.to_owned()] };
        Arc::new(Tokens { rules, algorithms: Algorithm::ALL.to_vec(), keys, known: Known::new() })
    }
}

impl Source for Published {
    async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        let published = self.0.lock().unwrap().clone();
        published.map(String::into_bytes).ok_or(FetchError::Status(503))
    }
}

/// What becomes of a token, and whether keys were waited for.
async fn outcome(tokens: &Arc<Tokens>, token: &str) -> (Result<Caller, Refusal>, bool) {
    match tokens.bearer(&header(&format!("Bearer {token}"))) {
        Bearer::None => panic!("there is a token"),
        Bearer::Now(caller) => (caller, false),
        Bearer::Later(caller) => (caller.await, true),
    }
}

const UNKNOWN: Result<Caller, Refusal> = Err(Refusal::Token(InvalidToken::UnknownKey));

#[tokio::test(start_paused = true)]
async fn a_new_key_is_fetched_when_a_token_names_it_and_an_old_one_forgotten() {
    let (old, new) = (Key::ec(), Key::ed());
    let published = Published::default();
    published.set([old.jwk(Some("old"))]);
    let tokens = published.tokens();
    let by_old = old.token(Some("old"), &claims());
    assert!(matches!(outcome(&tokens, &by_old).await, (Ok(_), true)), "the first keys are waited for");
    assert!(matches!(outcome(&tokens, &by_old).await, (Ok(_), false)));

    published.set([new.jwk(Some("new"))]);
    let by_new = new.token(Some("new"), &claims());
    assert_eq!(outcome(&tokens, &by_new).await, (UNKNOWN, false), "moments after a fetch");
    advance(Duration::from_secs(6)).await;
    assert!(matches!(outcome(&tokens, &by_new).await, (Ok(_), true)));
    assert!(matches!(outcome(&tokens, &by_new).await, (Ok(_), false)));
    // What was remembered of the key that was withdrawn is forgotten with it.
    assert_eq!(outcome(&tokens, &by_old).await, (UNKNOWN, false));
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_name_is_replaced_too() {
    let (old, new) = (Key::ec(), Key::ec());
    let published = Published::default();
    published.set([old.jwk(None)]);
    let tokens = published.tokens();
    assert!(outcome(&tokens, &old.token(None, &claims())).await.0.is_ok());
    published.set([new.jwk(None)]);
    advance(Duration::from_secs(6)).await;
    assert!(matches!(outcome(&tokens, &new.token(None, &claims())).await, (Ok(_), true)));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_not_believed_before_there_are_keys() {
    let key = Key::ec();
    let published = Published::default();
    let tokens = published.tokens();
    let token = key.token(Some("a"), &claims());
    let (first, waited) = outcome(&tokens, &token).await;
    assert!(waited && matches!(first, Err(Refusal::KeysUnavailable { .. })), "{first:?}");
    let (second, waited) = outcome(&tokens, &token).await;
    let Err(Refusal::KeysUnavailable { retry_after }) = second else { panic!("{second:?}") };
    assert!(!waited && retry_after > Duration::ZERO);
    // What no key could verify needs none to be refused.
    let malformed = outcome(&tokens, "malformed").await;
    assert_eq!(malformed, (Err(Refusal::Token(InvalidToken::Malformed)), false));

    published.set([key.jwk(Some("a"))]);
    advance(retry_after).await;
    assert!(outcome(&tokens, &token).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn known_keys_stay_good_while_their_issuer_is_down() {
    let key = Key::ec();
    let published = Published::default();
    published.set([key.jwk(Some("a"))]);
    let tokens = published.tokens();
    let token = |sub: &str| {
        let mut claims = claims();
        claims["sub"] = json!(sub);
        key.token(Some("a"), &claims)
    };
    assert!(outcome(&tokens, &token("one")).await.0.is_ok());
    published.take_down();
    advance(Duration::from_secs(6)).await;
    let unknown = Key::ec().token(Some("b"), &claims());
    let (refused, waited) = outcome(&tokens, &unknown).await;
    assert!(waited && matches!(refused, Err(Refusal::KeysUnavailable { .. })), "{refused:?}");
    assert!(matches!(outcome(&tokens, &token("two")).await, (Ok(_), false)));
    // The key is known, and this is not its signature: no other set would change that.
    let forged = outcome(&tokens, &Key::ec().token(Some("a"), &claims())).await;
    assert_eq!(forged, (Err(Refusal::Token(InvalidToken::Signature)), false));
}
