//! Which claims make a caller.

use serde_json::{Map, Value, json};

use super::{LEEWAY, Rules};
use crate::{caller::Caller, server::identity::InvalidToken};

const NOW: u64 = 1_800_000_000;

fn check(claims: &Value) -> Result<(Caller, u64), InvalidToken> {
    let rules =
        Rules { issuer: "https://issuer".to_owned(), audiences: vec!["a".to_owned(), "b".to_owned()] };
    let claims: Map<String, Value> = serde_json::from_str(&claims.to_string()).unwrap();
    rules.check(claims, NOW)
}

/// Claims that are right, but for this.
fn but(name: &str, value: Value) -> Value {
    let mut claims = json!({"iss": "https://issuer", "aud": "a", "sub": "me", "exp": NOW + 60});
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

#[test]
fn right_claims_make_a_caller() {
    let (caller, until) = check(&but("x", Value::Null)).unwrap();
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
        check(&but(name, value.clone())).unwrap_or_else(|error| panic!("{name} {value}: {error}"));
    }
}

#[test]
fn whatever_is_wrong_is_named() {
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
        assert_eq!(check(&but(name, value.clone())), Err(error), "{name} {value}");
    }
}

#[test]
fn claims_are_kept_by_their_names() {
    let (caller, _) = check(&but(
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
fn two_tokens_of_a_caller_are_one_caller() {
    let one = check(&but("jti", json!("1"))).unwrap().0;
    let mut other = but("jti", json!("2"));
    other["iat"] = json!(NOW);
    other["exp"] = json!(NOW + 100);
    assert_eq!(one, check(&other).unwrap().0);
}
