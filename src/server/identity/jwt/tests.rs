//! Tokens as they come in headers, by keys that are at hand or have to be fetched.

mod rotation;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{Bearer, InvalidToken, Tokens};
use crate::{
    caller::{Caller, Identity, Proof},
    server::{
        identity::{
            Refusal,
            issuer::{AUDIENCE, ISSUER, Key, claims, encoded, key_set, kubernetes_claims},
            jwks::Algorithm,
        },
        settings::{Jwks, Jwt},
    },
};

/// What verifies tokens by a file of these keys.
fn tokens(keys: impl IntoIterator<Item = Value>) -> Arc<Tokens> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key_set(keys)).unwrap();
    let config = Jwt {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        jwks: Jwks::File(file.path().to_owned()),
    };
    Arc::new(Tokens::new(&config).unwrap().0)
}

fn header(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
}

/// What is known at once of a request with these headers; `None` when it shows no token.
fn of_headers(tokens: &Arc<Tokens>, headers: &HeaderMap) -> Option<Result<Caller, InvalidToken>> {
    match tokens.bearer(headers) {
        Bearer::None => None,
        Bearer::Now(Err(Refusal::Token(error))) => Some(Err(error)),
        Bearer::Now(caller) => Some(Ok(caller.unwrap())),
        Bearer::Later(_) => panic!("a file is not waited for"),
    }
}

fn verify(tokens: &Arc<Tokens>, token: &str) -> Result<Caller, InvalidToken> {
    of_headers(tokens, &header(&format!("Bearer {token}"))).expect("a token")
}

#[test]
fn every_kind_of_key_verifies_its_own_tokens_and_no_others() {
    let keys = [Key::rsa(), Key::ec(), Key::ed()];
    let names = ["rsa", "ec", "ed"];
    let tokens = tokens(keys.iter().zip(names).map(|(key, name)| key.jwk(Some(name))));
    for (key, name) in keys.iter().zip(names) {
        let token = key.token(Some(name), &claims());
        for _ in 0..2 {
            let caller = verify(&tokens, &token).unwrap();
            assert_eq!(caller.to_string(), "jwt:https://issuer.example#console", "{name}");
            assert_eq!(caller.proof(), Proof::Jwt);
        }
    }
    for forged in [Key::ec().token(Some("ec"), &claims()), Key::ed().token(Some("ed"), &claims())] {
        assert_eq!(verify(&tokens, &forged), Err(InvalidToken::Signature));
    }
    let pss = Key::rsa().sign(&json!({"alg": "PS256", "kid": "rsa"}), &claims().to_string());
    assert!(verify(&tokens, &pss).is_ok());
}

#[test]
fn a_changed_token_has_a_bad_signature() {
    let key = Key::ec();
    let tokens = tokens([key.jwk(Some("a"))]);
    let good = key.token(Some("a"), &claims());
    let [head, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let mut others = claims();
    others["sub"] = json!("somebody else");
    let claims = encoded(others.to_string().as_bytes());
    let changed = format!("{head}.{claims}.{signature}");
    assert_eq!(verify(&tokens, &changed), Err(InvalidToken::Signature));
    let unsigned = good.rsplit_once('.').unwrap().0;
    assert_eq!(verify(&tokens, &format!("{unsigned}.")), Err(InvalidToken::Signature));
}

#[test]
fn a_token_cannot_choose_how_it_is_verified() {
    use aws_lc_rs::{
        hmac,
        signature::{KeyPair, RsaKeyPair},
    };
    let rsa = Key::rsa();
    let Key::Rsa(pair) = &rsa else { panic!("not RSA") };
    let pair: &RsaKeyPair = pair;
    let set = [rsa.jwk(Some("a")), Key::ec().jwk(Some("b"))];
    let tokens = tokens(set);
    let claims = claims().to_string();

    // The public key, which everybody knows, as the secret of an HMAC.
    let message =
        |header: &Value| format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.as_bytes()));
    let hs256 = message(&json!({"alg": "HS256", "kid": "a"}));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, pair.public_key().as_ref());
    let confused = format!("{hs256}.{}", encoded(hmac::sign(&secret, hs256.as_bytes()).as_ref()));
    assert_eq!(verify(&tokens, &confused), Err(InvalidToken::Algorithm));

    for alg in ["none", "None", "NONE", "", "RS257"] {
        let token = format!("{}.", message(&json!({"alg": alg, "kid": "a"})));
        assert_eq!(verify(&tokens, &token), Err(InvalidToken::Algorithm), "{alg}");
    }
    // One that is allowed, but none of the key's.
    let other = rsa.sign(&json!({"alg": "ES256", "kid": "a"}), &claims);
    assert_eq!(verify(&tokens, &other), Err(InvalidToken::Algorithm));
    let critical = rsa.sign(&json!({"alg": "RS256", "kid": "a", "crit": ["b64"], "b64": false}), &claims);
    assert_eq!(verify(&tokens, &critical), Err(InvalidToken::Critical));
    // A key that the token brings along is no key of the issuer's.
    let own = Key::ec();
    let brought = own.sign(&json!({"alg": "ES256", "kid": "c", "jwk": own.jwk(Some("c"))}), &claims);
    assert_eq!(verify(&tokens, &brought), Err(InvalidToken::UnknownKey));
}

#[test]
fn the_allow_list_is_the_operators() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (rsa, ec) = (Key::rsa(), Key::ec());
    std::fs::write(file.path(), key_set([rsa.jwk(Some("a")), ec.jwk(Some("b"))])).unwrap();
    let config = Jwt {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        algorithms: vec!["ES256".parse().unwrap()],
        jwks: Jwks::File(file.path().to_owned()),
    };
    let tokens = Arc::new(Tokens::new(&config).unwrap().0);
    assert!(verify(&tokens, &ec.token(Some("b"), &claims())).is_ok());
    let refused = verify(&tokens, &rsa.token(Some("a"), &claims()));
    assert_eq!(refused, Err(InvalidToken::Algorithm));
}

#[test]
fn a_token_without_a_key_id_is_tried_with_the_few_that_fit() {
    let signer = Key::ec();
    let others: Vec<_> = (0..4).map(|_| Key::ec().jwk(None)).collect();
    let few = tokens([&others[..3], &[Key::rsa().jwk(Some("a")), signer.jwk(Some("b"))]].concat());
    assert!(verify(&few, &signer.token(None, &claims())).is_ok());
    assert_eq!(verify(&few, &Key::ec().token(None, &claims())), Err(InvalidToken::UnknownKey));
    let many = tokens([&others[..], &[signer.jwk(Some("b"))]].concat());
    assert_eq!(verify(&many, &signer.token(None, &claims())), Err(InvalidToken::NoKeyId));
}

#[test]
fn a_token_of_kubernetes_tells_namespace_and_account() {
    let key = Key::rsa();
    let tokens = tokens([key.jwk(Some("k8s"))]);
    let caller = verify(&tokens, &key.token(Some("k8s"), &kubernetes_claims())).unwrap();
    let subject = "system:serviceaccount:mdm:console".to_owned();
    assert_eq!(*caller.identity(), Identity::Jwt { issuer: ISSUER.to_owned(), subject });
    for (name, value) in
        [("kubernetes.io/namespace", "mdm"), ("kubernetes.io/serviceaccount/name", "console")]
    {
        assert!(caller.claims()[name].contains(value), "{name}");
    }
}

#[test]
fn what_is_no_jwt_is_refused() {
    let key = Key::ec();
    let tokens = tokens([key.jwk(Some("a"))]);
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
        assert_eq!(verify(&tokens, token), Err(InvalidToken::Malformed), "{token}");
    }
    let long = "a".repeat(16 * 1024 + 1);
    assert_eq!(verify(&tokens, &long), Err(InvalidToken::TooLong));
    assert_eq!(verify(&tokens, &long[1..]), Err(InvalidToken::Malformed));
}

#[test]
fn the_scheme_has_no_case_and_others_are_not_for_us() {
    let key = Key::ec();
    let tokens = tokens([key.jwk(Some("a"))]);
    let token = key.token(Some("a"), &claims());
    for scheme in ["Bearer ", "bearer ", "BEARER ", "Bearer   "] {
        assert!(of_headers(&tokens, &header(&format!("{scheme}{token}"))).unwrap().is_ok(), "{scheme}");
    }
    assert_eq!(of_headers(&tokens, &header("Bearer")), Some(Err(InvalidToken::Malformed)));
    for other in ["Basic YTpi", "Negotiate x", "BearerToken x", "", "Bear"] {
        assert_eq!(of_headers(&tokens, &header(other)), None, "{other}");
    }
    assert_eq!(of_headers(&tokens, &HeaderMap::new()), None);

    let mut two = header(&format!("Bearer {token}"));
    two.append(http::header::AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
    assert_eq!(of_headers(&tokens, &two), Some(Err(InvalidToken::Several)));
}

#[test]
fn nothing_of_a_token_is_repeated() {
    let key = Key::ec();
    let tokens = tokens([key.jwk(Some("a"))]);
    let mut claims = claims();
    claims["aud"] = json!("xyzzy");
    let error = verify(&tokens, &key.token(Some("a"), &claims)).unwrap_err();
    assert_eq!(Refusal::Token(error).to_string(), "the bearer token is for another audience (aud)");
}
