//! Tests of tokens with keys from a file and with fetched keys, of claims, and of the cache.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use tokio::time::{Duration, advance};

use super::{Bearer, InvalidToken, LEEWAY, MAX_CACHED_TOKENS, TokenCache, TokenVerifier};
use crate::{
    background::Background,
    caller::{Caller, Evidence, Identity},
    http_client::ProxySettings,
    server::{
        identity::{
            Refusal,
            issuer::{AUDIENCE, ISSUER, Key, claims, encoded, key_set, kubernetes_claims},
            jwks::{Algorithm, JwksFetchError, KeySource, LoadedKeys},
            jwks_refresh::IssuerKeys,
        },
        settings::{Jwks, Jwt},
    },
};

/// A verifier with a file of these keys.
fn verifier(keys: impl IntoIterator<Item = Value>) -> Arc<TokenVerifier> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key_set(keys)).unwrap();
    let settings = Jwt {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        jwks: Jwks::File(file.path().to_owned()),
    };
    Arc::new(
        TokenVerifier::new(
            &settings,
            LoadedKeys::load(&settings, &ProxySettings::default()).unwrap(),
            &Background::unsupervised(),
        )
        .unwrap(),
    )
}

fn header(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
}

/// The caller of a request with these headers; `None` without a token. The verifier has keys from a file.
fn identify(verifier: &Arc<TokenVerifier>, headers: &HeaderMap) -> Option<Result<Caller, InvalidToken>> {
    match verifier.bearer(headers) {
        Bearer::None => None,
        Bearer::Now(Err(Refusal::Token(error))) => Some(Err(error)),
        Bearer::Now(caller) => Some(Ok(caller.unwrap())),
        Bearer::Later(_) => panic!("a file causes no fetch"),
    }
}

fn verify(verifier: &Arc<TokenVerifier>, token: &str) -> Result<Caller, InvalidToken> {
    identify(verifier, &header(&format!("Bearer {token}"))).expect("a token")
}

#[tokio::test]
async fn each_key_type_verifies_only_its_own_tokens() {
    let keys = [Key::rsa(), Key::ec(), Key::ed()];
    let names = ["rsa", "ec", "ed"];
    let verifier = verifier(keys.iter().zip(names).map(|(key, name)| key.jwk(Some(name))));
    for (key, name) in keys.iter().zip(names) {
        let token = key.token(Some(name), &claims());
        for _ in 0..2 {
            let caller = verify(&verifier, &token).unwrap();
            assert_eq!(caller.to_string(), "jwt:https://issuer.example#console", "{name}");
            assert_eq!(caller.evidence(), Evidence::Jwt);
        }
    }
    for forged in [Key::ec().token(Some("ec"), &claims()), Key::ed().token(Some("ed"), &claims())] {
        assert_eq!(verify(&verifier, &forged), Err(InvalidToken::Signature));
    }
    let pss = Key::rsa().sign(&json!({"alg": "PS256", "kid": "rsa"}), &claims().to_string());
    assert!(verify(&verifier, &pss).is_ok());
}

#[tokio::test]
async fn a_changed_token_has_an_invalid_signature() {
    let key = Key::ec();
    let verifier = verifier([key.jwk(Some("a"))]);
    let good = key.token(Some("a"), &claims());
    let [head, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let mut others = claims();
    others["sub"] = json!("another");
    let claims = encoded(others.to_string().as_bytes());
    let changed = format!("{head}.{claims}.{signature}");
    assert_eq!(verify(&verifier, &changed), Err(InvalidToken::Signature));
    let unsigned = good.rsplit_once('.').unwrap().0;
    assert_eq!(verify(&verifier, &format!("{unsigned}.")), Err(InvalidToken::Signature));
}

#[tokio::test]
async fn a_token_cannot_choose_its_verification() {
    use aws_lc_rs::{
        hmac,
        signature::{KeyPair, RsaKeyPair},
    };
    let rsa = Key::rsa();
    let Key::Rsa(pair) = &rsa else { panic!("not RSA") };
    let pair: &RsaKeyPair = pair;
    let set = [rsa.jwk(Some("a")), Key::ec().jwk(Some("b"))];
    let verifier = verifier(set);
    let claims = claims().to_string();

    // An HMAC with the public key as its secret.
    let message =
        |header: &Value| format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.as_bytes()));
    let hs256 = message(&json!({"alg": "HS256", "kid": "a"}));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, pair.public_key().as_ref());
    let confused = format!("{hs256}.{}", encoded(hmac::sign(&secret, hs256.as_bytes()).as_ref()));
    assert_eq!(verify(&verifier, &confused), Err(InvalidToken::Algorithm));

    for alg in ["none", "None", "NONE", "", "RS257"] {
        let token = format!("{}.", message(&json!({"alg": alg, "kid": "a"})));
        assert_eq!(verify(&verifier, &token), Err(InvalidToken::Algorithm), "{alg}");
    }
    // An allowed algorithm that does not suit the key.
    let other = rsa.sign(&json!({"alg": "ES256", "kid": "a"}), &claims);
    assert_eq!(verify(&verifier, &other), Err(InvalidToken::Algorithm));
    let critical = rsa.sign(&json!({"alg": "RS256", "kid": "a", "crit": ["b64"], "b64": false}), &claims);
    assert_eq!(verify(&verifier, &critical), Err(InvalidToken::Critical));
    // A key in the token is not the issuer's.
    let own = Key::ec();
    let embedded = own.sign(&json!({"alg": "ES256", "kid": "c", "jwk": own.jwk(Some("c"))}), &claims);
    assert_eq!(verify(&verifier, &embedded), Err(InvalidToken::UnknownKey));
}

#[tokio::test]
async fn only_the_configured_algorithms_are_accepted() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (rsa, ec) = (Key::rsa(), Key::ec());
    std::fs::write(file.path(), key_set([rsa.jwk(Some("a")), ec.jwk(Some("b"))])).unwrap();
    let settings = Jwt {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        algorithms: vec!["ES256".parse().unwrap()],
        jwks: Jwks::File(file.path().to_owned()),
    };
    let verifier = Arc::new(
        TokenVerifier::new(
            &settings,
            LoadedKeys::load(&settings, &ProxySettings::default()).unwrap(),
            &Background::unsupervised(),
        )
        .unwrap(),
    );
    assert!(verify(&verifier, &ec.token(Some("b"), &claims())).is_ok());
    let refused = verify(&verifier, &rsa.token(Some("a"), &claims()));
    assert_eq!(refused, Err(InvalidToken::Algorithm));
}

#[tokio::test]
async fn a_token_without_a_key_id_is_verified_with_a_few_suitable_keys() {
    let signer = Key::ec();
    let others: Vec<_> = (0..4).map(|_| Key::ec().jwk(None)).collect();
    let few = verifier([&others[..3], &[Key::rsa().jwk(Some("a")), signer.jwk(Some("b"))]].concat());
    assert!(verify(&few, &signer.token(None, &claims())).is_ok());
    assert_eq!(verify(&few, &Key::ec().token(None, &claims())), Err(InvalidToken::UnknownKey));
    let many = verifier([&others[..], &[signer.jwk(Some("b"))]].concat());
    assert_eq!(verify(&many, &signer.token(None, &claims())), Err(InvalidToken::NoKeyId));
}

#[tokio::test]
async fn a_kubernetes_token_has_namespace_and_account() {
    let key = Key::rsa();
    let verifier = verifier([key.jwk(Some("k8s"))]);
    let caller = verify(&verifier, &key.token(Some("k8s"), &kubernetes_claims())).unwrap();
    let subject = "system:serviceaccount:mdm:console".to_owned();
    assert_eq!(*caller.identity(), Identity::Jwt { issuer: ISSUER.to_owned(), subject });
    for (name, value) in
        [("kubernetes.io/namespace", "mdm"), ("kubernetes.io/serviceaccount/name", "console")]
    {
        assert!(caller.claims()[name].contains(value), "{name}");
    }
}

#[tokio::test]
async fn a_text_that_is_not_a_jwt_is_malformed() {
    let key = Key::ec();
    let verifier = verifier([key.jwk(Some("a"))]);
    let good = key.token(Some("a"), &claims());
    let header = json!({"alg": "ES256", "kid": "a"});
    for token in [
        "",
        ".",
        "..",
        "...",
        "opaque",
        "a.b",
        "!.!.!",
        &format!("{good}.x"),
        &good.replace('.', ".."),
        &format!("{}.e30.AA", encoded(b"[]")),
        &format!("{}.e30.AA", encoded(b"{\"alg\":\"ES256\",\"alg\":\"none\"}")),
        &format!("{}.e30.AA", encoded(b"{\"alg\":7}")),
        &format!("{}.e30.AA", encoded(b"{}")),
        &key.sign(&header, "[]"),
        &key.sign(&header, "\"text\""),
        &key.sign(&header, "{"),
        &key.sign(&header, &"[".repeat(1000)),
    ] {
        assert_eq!(verify(&verifier, token), Err(InvalidToken::Malformed), "{token}");
    }
    let long = "a".repeat(16 * 1024 + 1);
    assert_eq!(verify(&verifier, &long), Err(InvalidToken::TooLong));
    assert_eq!(verify(&verifier, &long[1..]), Err(InvalidToken::Malformed));
}

#[tokio::test]
async fn the_scheme_is_case_insensitive_and_other_schemes_are_ignored() {
    let key = Key::ec();
    let verifier = verifier([key.jwk(Some("a"))]);
    let token = key.token(Some("a"), &claims());
    for scheme in ["Bearer ", "bearer ", "BEARER ", "Bearer   "] {
        assert!(identify(&verifier, &header(&format!("{scheme}{token}"))).unwrap().is_ok(), "{scheme}");
    }
    assert_eq!(identify(&verifier, &header("Bearer")), Some(Err(InvalidToken::Malformed)));
    for other in ["Basic YTpi", "Negotiate x", "BearerToken x", "", "Bear"] {
        assert_eq!(identify(&verifier, &header(other)), None, "{other}");
    }
    assert_eq!(identify(&verifier, &HeaderMap::new()), None);

    let mut two = header(&format!("Bearer {token}"));
    two.append(http::header::AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
    assert_eq!(identify(&verifier, &two), Some(Err(InvalidToken::Several)));
}

#[tokio::test]
async fn an_error_does_not_quote_the_token() {
    let key = Key::ec();
    let verifier = verifier([key.jwk(Some("a"))]);
    let mut claims = claims();
    claims["aud"] = json!("xyzzy");
    let error = verify(&verifier, &key.token(Some("a"), &claims)).unwrap_err();
    assert_eq!(Refusal::Token(error).to_string(), "the bearer token is for another audience (aud)");
}

/// The key set that an issuer publishes; `None` while the issuer is unavailable.
#[derive(Clone, Default)]
struct Published(Arc<Mutex<Option<String>>>);

impl Published {
    fn set(&self, keys: impl IntoIterator<Item = Value>) {
        *self.0.lock().unwrap() = Some(key_set(keys));
    }

    fn take_down(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn verifier(&self) -> Arc<TokenVerifier> {
        let algorithms = Algorithm::ALL.to_vec();
        let keys = IssuerKeys::fetched(self.clone(), algorithms.clone(), &Background::unsupervised());
        Arc::new(TokenVerifier {
            issuer: ISSUER.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            algorithms,
            keys,
            cache: TokenCache::new(),
        })
    }
}

impl KeySource for Published {
    async fn fetch(&self) -> Result<Vec<u8>, JwksFetchError> {
        let published = self.0.lock().unwrap().clone();
        published.map(String::into_bytes).ok_or(JwksFetchError::Status(503))
    }
}

/// The caller in a token, and whether the call waited for a fetch.
async fn outcome(verifier: &Arc<TokenVerifier>, token: &str) -> (Result<Caller, Refusal>, bool) {
    match verifier.bearer(&header(&format!("Bearer {token}"))) {
        Bearer::None => panic!("there is a token"),
        Bearer::Now(caller) => (caller, false),
        Bearer::Later(caller) => (caller.await, true),
    }
}

const UNKNOWN: Result<Caller, Refusal> = Err(Refusal::Token(InvalidToken::UnknownKey));

#[tokio::test(start_paused = true)]
async fn a_new_key_is_fetched_when_a_token_names_it_and_a_withdrawn_key_is_removed() {
    let (old, new) = (Key::ec(), Key::ed());
    let published = Published::default();
    published.set([old.jwk(Some("old"))]);
    let verifier = published.verifier();
    let by_old = old.token(Some("old"), &claims());
    assert!(matches!(outcome(&verifier, &by_old).await, (Ok(_), true)), "the call waits for the first keys");
    assert!(matches!(outcome(&verifier, &by_old).await, (Ok(_), false)));

    published.set([new.jwk(Some("new"))]);
    let by_new = new.token(Some("new"), &claims());
    assert_eq!(outcome(&verifier, &by_new).await, (UNKNOWN, false), "soon after a fetch");
    advance(Duration::from_secs(6)).await;
    assert!(matches!(outcome(&verifier, &by_new).await, (Ok(_), true)));
    assert!(matches!(outcome(&verifier, &by_new).await, (Ok(_), false)));
    // The cached tokens of the withdrawn key are removed.
    assert_eq!(outcome(&verifier, &by_old).await, (UNKNOWN, false));
}

#[tokio::test(start_paused = true)]
async fn a_key_without_an_id_is_replaced() {
    let (old, new) = (Key::ec(), Key::ec());
    let published = Published::default();
    published.set([old.jwk(None)]);
    let verifier = published.verifier();
    assert!(outcome(&verifier, &old.token(None, &claims())).await.0.is_ok());
    published.set([new.jwk(None)]);
    advance(Duration::from_secs(6)).await;
    assert!(matches!(outcome(&verifier, &new.token(None, &claims())).await, (Ok(_), true)));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_not_accepted_before_the_first_fetch() {
    let key = Key::ec();
    let published = Published::default();
    let verifier = published.verifier();
    let token = key.token(Some("a"), &claims());
    let (first, waited) = outcome(&verifier, &token).await;
    assert!(waited && matches!(first, Err(Refusal::KeysUnavailable { .. })), "{first:?}");
    let (second, waited) = outcome(&verifier, &token).await;
    let Err(Refusal::KeysUnavailable { retry_after }) = second else { panic!("{second:?}") };
    assert!(!waited && retry_after > Duration::ZERO);
    // A malformed token is refused without keys.
    let malformed = outcome(&verifier, "malformed").await;
    assert_eq!(malformed, (Err(Refusal::Token(InvalidToken::Malformed)), false));

    published.set([key.jwk(Some("a"))]);
    advance(retry_after).await;
    assert!(outcome(&verifier, &token).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn known_keys_stay_active_while_the_issuer_is_unavailable() {
    let key = Key::ec();
    let published = Published::default();
    published.set([key.jwk(Some("a"))]);
    let verifier = published.verifier();
    let token = |sub: &str| {
        let mut claims = claims();
        claims["sub"] = json!(sub);
        key.token(Some("a"), &claims)
    };
    assert!(outcome(&verifier, &token("one")).await.0.is_ok());
    published.take_down();
    advance(Duration::from_secs(6)).await;
    let unknown = Key::ec().token(Some("b"), &claims());
    let (refused, waited) = outcome(&verifier, &unknown).await;
    assert!(waited && matches!(refused, Err(Refusal::KeysUnavailable { .. })), "{refused:?}");
    assert!(matches!(outcome(&verifier, &token("two")).await, (Ok(_), false)));
    // The key is known and did not sign the token, so a fetch is not necessary.
    let forged = outcome(&verifier, &Key::ec().token(Some("a"), &claims())).await;
    assert_eq!(forged, (Err(Refusal::Token(InvalidToken::Signature)), false));
}

const NOW: u64 = 1_800_000_000;

fn check(claims: &Value) -> Result<(Caller, u64), InvalidToken> {
    let claims: Map<String, Value> = serde_json::from_str(&claims.to_string()).unwrap();
    super::caller(claims, "https://issuer", &["a".to_owned(), "b".to_owned()], NOW)
}

/// Valid claims, except for this one.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = json!({"iss": "https://issuer", "aud": "a", "sub": "me", "exp": NOW + 60});
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

#[test]
fn valid_claims_have_a_caller() {
    let (caller, until) = check(&claims_with("x", Value::Null)).unwrap();
    assert_eq!(caller.to_string(), "jwt:https://issuer#me");
    assert_eq!(until, NOW + 60 + LEEWAY);
    for (name, value) in [
        ("aud", json!(["x", "b"])),
        ("exp", json!(NOW - LEEWAY + 1)),
        ("exp", json!(NOW as f64 + 0.5)),
        ("exp", json!(1e300)),
        ("nbf", json!(NOW + LEEWAY)),
        ("nbf", json!(0)),
        ("iat", json!(NOW + 1000)),
    ] {
        check(&claims_with(name, value.clone())).unwrap_or_else(|error| panic!("{name} {value}: {error}"));
    }
}

#[test]
fn each_invalid_claim_has_its_error() {
    for (name, value, error) in [
        ("exp", json!(null), InvalidToken::NoExpiry),
        ("exp", json!("soon"), InvalidToken::NoExpiry),
        ("exp", json!(-1), InvalidToken::NoExpiry),
        ("exp", json!(NOW.to_string()), InvalidToken::NoExpiry),
        ("exp", json!(NOW - LEEWAY), InvalidToken::Expired),
        ("exp", json!(0), InvalidToken::Expired),
        ("nbf", json!(NOW + LEEWAY + 1), InvalidToken::NotYetValid),
        ("nbf", json!(1e300), InvalidToken::NotYetValid),
        ("nbf", json!("now"), InvalidToken::NotYetValid),
        ("iss", json!(null), InvalidToken::Issuer),
        ("iss", json!("https://issuer/"), InvalidToken::Issuer),
        ("iss", json!(["https://issuer"]), InvalidToken::Issuer),
        ("aud", json!(null), InvalidToken::Audience),
        ("aud", json!("A"), InvalidToken::Audience),
        ("aud", json!([]), InvalidToken::Audience),
        ("aud", json!([["a"], 1]), InvalidToken::Audience),
        ("aud", json!({"a": "a"}), InvalidToken::Audience),
        ("sub", json!(null), InvalidToken::NoSubject),
        ("sub", json!(""), InvalidToken::NoSubject),
        ("sub", json!(7), InvalidToken::NoSubject),
    ] {
        assert_eq!(check(&claims_with(name, value.clone())), Err(error), "{name} {value}");
    }
}

#[test]
fn nested_claims_are_flattened() {
    let (caller, _) = check(&claims_with(
        "kubernetes.io",
        json!({
            "namespace": "mdm", "serviceaccount": {"name": "console"}, "groups": ["x", "y", ["z"]],
            "big": 12345678901234567890123_u128, "on": true, "none": null, "empty": [],
        }),
    ))
    .unwrap();
    let claims = caller.claims();
    let values = |name: &str| claims.get(name).into_iter().flatten().cloned().collect::<Vec<_>>();
    assert_eq!(values("kubernetes.io/namespace"), ["mdm"]);
    assert_eq!(values("kubernetes.io/serviceaccount/name"), ["console"]);
    assert_eq!(values("kubernetes.io/groups"), ["x", "y", "z"]);
    assert_eq!(values("kubernetes.io/big"), ["12345678901234567890123"]);
    assert_eq!(values("kubernetes.io/on"), ["true"]);
    assert_eq!(values("aud"), ["a"]);
    for absent in ["kubernetes.io", "kubernetes.io/none", "kubernetes.io/empty", "exp"] {
        assert!(!claims.contains_key(absent), "{absent}");
    }
}

#[test]
fn two_tokens_of_a_caller_are_equal_callers() {
    let one = check(&claims_with("jti", json!("1"))).unwrap().0;
    let mut other = claims_with("jti", json!("2"));
    other["iat"] = json!(NOW);
    other["exp"] = json!(NOW + 100);
    assert_eq!(one, check(&other).unwrap().0);
}

#[test]
fn a_token_is_cached_until_it_expires_or_the_keys_change() {
    let cache = TokenCache::new();
    cache.insert(b"a", 0, Caller::unix(1), 100);
    assert_eq!(cache.get(b"a", 0, 99), Some(Caller::unix(1)));
    assert_eq!(cache.get(b"b", 0, 99), None);
    assert_eq!(cache.get(b"a", 0, 100), None);

    cache.insert(b"a", 0, Caller::unix(1), 100);
    assert_eq!(cache.get(b"a", 1, 0), None);
    // A token that was verified with the withdrawn keys is not cached.
    cache.insert(b"a", 0, Caller::unix(1), 100);
    assert_eq!((cache.get(b"a", 0, 0), cache.get(b"a", 1, 0)), (None, None));
}

#[test]
fn the_least_recently_used_token_is_evicted() {
    let cache = TokenCache::new();
    for token in 0..=MAX_CACHED_TOKENS.get() {
        cache.insert(&token.to_be_bytes(), 0, Caller::anonymous(), 100);
    }
    assert_eq!(cache.get(&0_usize.to_be_bytes(), 0, 0), None);
    assert!(cache.get(&1_usize.to_be_bytes(), 0, 0).is_some());
}
