//! Which keys of a set are used, and for what.

use serde_json::{Value, json};

use super::{Algorithm, InvalidKeySet, KeySet};
use crate::server::identity::issuer::{Key, key_set};

/// The names of the algorithms for which the first key of a set of `jwk` alone is used.
fn fits(jwk: Value) -> Vec<String> {
    match KeySet::parse(key_set([jwk]).as_bytes(), &Algorithm::ALL) {
        Ok(set) => set.keys[0].fits.iter().map(ToString::to_string).collect(),
        Err(InvalidKeySet::NoKey) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

#[test]
fn a_key_is_for_the_algorithms_of_its_kind_and_its_own_words() {
    let (rsa, ec, ed) = (Key::rsa().jwk(None), Key::ec().jwk(None), Key::ed().jwk(None));
    assert_eq!(fits(rsa.clone()), ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]);
    assert_eq!(fits(ec.clone()), ["ES256"]);
    assert_eq!(fits(ed), ["EdDSA"]);
    assert_eq!(fits(with(ec.clone(), "crv", json!("P-384"))), ["ES384"]);

    assert_eq!(fits(with(rsa.clone(), "alg", json!("PS384"))), ["PS384"]);
    assert_eq!(fits(with(rsa.clone(), "use", json!("sig"))).len(), 6);
    assert_eq!(fits(with(rsa.clone(), "key_ops", json!(["verify"]))).len(), 6);
    for (name, value) in [
        ("alg", json!("RSA-OAEP")),
        ("alg", json!("ES256")),
        ("alg", json!("none")),
        ("use", json!("enc")),
        ("key_ops", json!(["encrypt"])),
        ("n", json!("not base64!")),
        ("kty", json!("unheard of")),
    ] {
        assert_eq!(fits(with(rsa.clone(), name, value.clone())), [""; 0], "{name}: {value}");
    }
    for curve in ["P-521", "Ed25519", "secp256k1"] {
        assert_eq!(fits(with(ec.clone(), "crv", json!(curve))), [""; 0], "{curve}");
    }
    // A secret, which could sign as well.
    assert_eq!(fits(json!({"kty": "oct", "alg": "HS256", "k": "c2VjcmV0"})), [""; 0]);
    assert_eq!(fits(json!({"kty": "oct", "k": "c2VjcmV0"})), [""; 0]);
}

#[test]
fn what_cannot_be_used_does_not_stand_in_the_way_of_what_can() {
    let set = key_set([
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        json!("no key"),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        Key::ec().jwk(Some("a")),
    ]);
    assert_eq!(KeySet::parse(set.as_bytes(), &Algorithm::ALL).unwrap().len(), 1);
    let only_rsa = ["RS256".parse().unwrap()];
    assert_eq!(KeySet::parse(set.as_bytes(), &only_rsa).unwrap_err(), InvalidKeySet::NoKey);
}

#[test]
fn what_is_no_set_says_so() {
    for (text, error) in [
        ("", InvalidKeySet::Form),
        ("<html>", InvalidKeySet::Form),
        ("[]", InvalidKeySet::Form),
        ("{}", InvalidKeySet::Form),
        ("{\"keys\": {}}", InvalidKeySet::Form),
        ("{\"keys\": []}", InvalidKeySet::NoKey),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes(), &Algorithm::ALL).unwrap_err(), error, "{text}");
    }
}

#[test]
fn only_asymmetric_algorithms_have_names() {
    for known in Algorithm::ALL {
        assert_eq!(known.to_string().parse(), Ok(known));
    }
    for name in ["HS256", "HS384", "HS512", "none", "None", "rs256", "", "RSA-OAEP"] {
        assert!(name.parse::<Algorithm>().is_err(), "{name}");
    }
}

#[test]
fn a_set_prints_no_key() {
    let jwk = Key::ec().jwk(Some("a"));
    let set = KeySet::parse(key_set([jwk.clone()]).as_bytes(), &Algorithm::ALL).unwrap();
    assert!(!format!("{set:?}").contains(jwk["x"].as_str().unwrap()));
}
