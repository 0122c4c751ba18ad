use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;
use crate::access_token::ANDROID_MANAGEMENT as SCOPE;
use crate::account::{FIRST_ACCOUNT, email};
use crate::key::RsaKey;

const TOKEN_URL: &str = "http://127.0.0.1:1/token";
const NOW: Duration = Duration::from_secs(1_800_000_000);

/// A service account that signs assertions for a test.
struct Signer {
    accounts: Accounts,
    key: KeyPair,
}

impl Signer {
    fn new() -> Self {
        let accounts = Accounts::new(RsaKey::generate().unwrap()).unwrap();
        let key = private_key(accounts.key.private());
        Self { accounts, key }
    }

    fn key_id(&self) -> String {
        self.accounts.find(&email(FIRST_ACCOUNT)).unwrap().key_id.clone()
    }

    fn claims(&self) -> Value {
        let iat = NOW.as_secs();
        json!({
            "iss": email(FIRST_ACCOUNT), "aud": TOKEN_URL, "scope": SCOPE, "iat": iat, "exp": iat + 3600,
        })
    }

    fn sign(&self, engine: &GeneralPurpose, header: &Value, claims: &Value) -> String {
        let signed = [header, claims].map(|part| engine.encode(part.to_string())).join(".");
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", engine.encode(signature))
    }

    fn check(&self, assertion: &str) -> Result<TokenGrant, OAuthError> {
        check(assertion, &self.accounts, TOKEN_URL, NOW)
    }

    /// The `error` and the description for an assertion with one invalid claim.
    fn rejected(&self, claim: &str, value: Value) -> (&'static str, String) {
        let mut claims = self.claims();
        claims[claim] = value;
        let rejection = self.check(&self.sign(&URL_SAFE_NO_PAD, &header(), &claims)).unwrap_err();
        (rejection.error, rejection.description)
    }
}

fn header() -> Value {
    json!({ "alg": "RS256", "typ": "JWT" })
}

fn private_key(pem: &str) -> KeyPair {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    KeyPair::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap()
}

#[test]
fn a_valid_assertion_is_accepted_padded_or_not() {
    let signer = Signer::new();
    for engine in [URL_SAFE_NO_PAD, URL_SAFE] {
        let assertion = signer.sign(&engine, &header(), &signer.claims());
        let granted = signer.check(&assertion).unwrap();
        assert_eq!((&*granted.principal, granted.scopes.names()), (&*email(FIRST_ACCOUNT), &[SCOPE][..]));
    }
}

#[test]
fn each_account_signs_with_its_own_key_id() {
    let mut signer = Signer::new();
    let emea = signer.accounts.named("emea").unwrap();
    let (iss, kid) = (emea.email.to_string(), emea.key_id.clone());
    let mut claims = signer.claims();
    claims["iss"] = json!(iss);
    let signed = |kid: &str| {
        let header = json!({ "alg": "RS256", "kid": kid });
        signer.check(&signer.sign(&URL_SAFE_NO_PAD, &header, &claims))
    };
    assert_eq!(&*signed(&kid).unwrap().principal, iss);
    assert_eq!(signed(&signer.key_id()), Err(OAuthError::invalid_grant("Invalid JWT Signature.")));
}

#[test]
fn a_disabled_account_gets_no_token() {
    let mut signer = Signer::new();
    signer.accounts.set_enabled(&email(FIRST_ACCOUNT), false);
    let assertion = signer.sign(&URL_SAFE_NO_PAD, &header(), &signer.claims());
    let rejected = Err(OAuthError::invalid_grant("Invalid grant: account not found"));
    assert_eq!(signer.check(&assertion), rejected);
}

#[test]
fn the_variations_of_real_clients_are_accepted() {
    let signer = Signer::new();
    let now = NOW.as_secs();
    let variations = [
        json!({ "aud": "https://oauth2.googleapis.com/token" }),
        json!({ "scope": format!("https://www.googleapis.com/auth/cloud-platform {SCOPE}") }),
        json!({ "sub": null }),
        json!({ "sub": email(FIRST_ACCOUNT) }),
        json!({ "iat": now - 3600 - 299, "exp": now - 299 }),
        json!({ "iat": now + 299, "exp": now + 3899 }),
        json!({ "iat": now as f64 + 0.5 }),
    ];
    for variation in variations {
        let mut claims = signer.claims();
        claims.as_object_mut().unwrap().extend(variation.as_object().unwrap().clone());
        let kid = json!({ "alg": "RS256", "kid": signer.key_id() });
        let assertion = signer.sign(&URL_SAFE_NO_PAD, &kid, &claims);
        let granted = signer.check(&assertion);
        assert!(granted.is_ok_and(|grant| grant.scopes.allow_any(&[SCOPE])), "{variation}");
    }
}

#[test]
fn a_signature_of_another_key_or_text_is_rejected() {
    let (signer, other) = (Signer::new(), Signer::new());
    let rejected = Err(OAuthError::invalid_grant("Invalid JWT Signature."));
    let forged = other.sign(&URL_SAFE_NO_PAD, &header(), &signer.claims());
    assert_eq!(signer.check(&forged), rejected);

    let good = signer.sign(&URL_SAFE_NO_PAD, &header(), &signer.claims());
    let parts: Vec<_> = good.split('.').collect();
    let mut claims = signer.claims();
    claims["sub"] = Value::Null;
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    assert_eq!(signer.check(&format!("{}.{claims}.{}", parts[0], parts[2])), rejected);
    assert_eq!(signer.check(&format!("{}.{}.", parts[0], parts[1])), rejected);
    assert_eq!(signer.check(&format!("{}.{}.?", parts[0], parts[1])), rejected);

    let kid = json!({ "alg": "RS256", "kid": other.key_id() });
    assert_eq!(signer.check(&signer.sign(&URL_SAFE_NO_PAD, &kid, &signer.claims())), rejected);
}

#[test]
fn another_algorithm_is_rejected() {
    let signer = Signer::new();
    for alg in ["none", "HS256", "RS512"] {
        let assertion = signer.sign(&URL_SAFE_NO_PAD, &json!({ "alg": alg }), &signer.claims());
        let rejection = signer.check(&assertion).unwrap_err();
        assert!(rejection.description.contains("RS256"), "{alg}: {rejection:?}");
    }
}

#[test]
fn each_claim_is_checked() {
    let signer = Signer::new();
    let now = NOW.as_secs();
    for (claim, value, error, words) in [
        ("iss", json!("other@example.com"), "invalid_grant", "account not found"),
        ("iss", Value::Null, "invalid_grant", "account not found"),
        ("aud", json!("http://127.0.0.1:2/token"), "invalid_grant", "audience"),
        ("aud", Value::Null, "invalid_grant", "audience"),
        ("aud", json!([TOKEN_URL]), "invalid_grant", "audience"),
        ("scope", json!("https://www.googleapis.com/auth/nonesuch"), "invalid_scope", "scope"),
        ("scope", json!(format!("{SCOPE}.readonly")), "invalid_scope", "scope"),
        ("scope", Value::Null, "invalid_scope", "scope"),
        ("sub", json!("someone@example.com"), "unauthorized_client", "unauthorized"),
        ("sub", json!(7), "unauthorized_client", "unauthorized"),
        ("iat", Value::Null, "invalid_grant", "iat and exp"),
        ("iat", json!("now"), "invalid_grant", "iat and exp"),
        ("iat", json!(now + 301), "invalid_grant", "iat and exp"),
        ("iat", json!(-1), "invalid_grant", "iat and exp"),
        ("exp", Value::Null, "invalid_grant", "iat and exp"),
        ("exp", json!(now + 3601), "invalid_grant", "iat and exp"),
        ("exp", json!(now), "invalid_grant", "iat and exp"),
        ("exp", json!(u64::MAX), "invalid_grant", "iat and exp"),
    ] {
        let (got, description) = signer.rejected(claim, value.clone());
        assert_eq!(got, error, "{claim} {value}");
        assert!(description.contains(words), "{claim} {value}: {description}");
    }
}

#[test]
fn an_expired_assertion_is_rejected() {
    let signer = Signer::new();
    let assertion = signer.sign(&URL_SAFE_NO_PAD, &header(), &signer.claims());
    let later = |seconds| {
        let now = NOW + Duration::from_secs(seconds);
        check(&assertion, &signer.accounts, TOKEN_URL, now).map(drop).map_err(|rejection| rejection.error)
    };
    assert_eq!(later(3600 + 299), Ok(()));
    assert_eq!(later(3600 + 300), Err("invalid_grant"));
}

#[test]
fn a_malformed_jwt_is_rejected() {
    let signer = Signer::new();
    let empty = URL_SAFE_NO_PAD.encode("{}");
    for text in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "é.é.é", &format!("{empty}.{empty}.")] {
        let rejection = signer.check(text).unwrap_err();
        assert_eq!((rejection.http.as_u16(), rejection.error), (400, "invalid_grant"), "{text}");
    }
}
