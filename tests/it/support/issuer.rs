//! A JWT issuer: its keys, and the tokens that it signs. The code signs with aws-lc-rs directly and shares no code
//! with the verifier, so an error in the verifier cannot hide here.

// The tests of `server::identity` include this file too, and use a part of it.
#![allow(dead_code)]

use std::sync::OnceLock;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, jwk::Jwk};
use serde_json::{Value, json};

/// The `iss` and `aud` claims of tokens.
pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const AUDIENCE: &str = "countermand";

/// A private key of an issuer.
pub(crate) enum Key {
    Rsa(&'static RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Key {
    pub(crate) fn rsa() -> Self {
        // Generating an RSA key is slow, so all tests share one.
        static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
        Self::Rsa(KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub(crate) fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    /// The default signature algorithm of this key.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    /// The public key as a JWK.
    pub(crate) fn jwk(&self, id: Option<&str>) -> Value {
        let public = match self {
            Self::Rsa(key) => DecodingKey::from_rsa_der(key.public_key().as_ref()),
            Self::Ec(key) => DecodingKey::from_ec_der(key.public_key().as_ref()),
            Self::Ed(key) => DecodingKey::from_ed_der(key.public_key().as_ref()),
        };
        let mut jwk = serde_json::to_value(Jwk::from_decoding_key(&public, None).unwrap()).unwrap();
        if let Some(id) = id {
            jwk["kid"] = Value::from(id);
        }
        jwk
    }

    /// A signed token with these claims. Its header has the key ID `id`.
    pub(crate) fn token(&self, id: Option<&str>, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let Some(id) = id {
            header["kid"] = Value::from(id);
        }
        self.sign(&header, &claims.to_string())
    }

    /// A signed token with this header and payload.
    pub(crate) fn sign(&self, header: &Value, claims: &str) -> String {
        let message = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.as_bytes()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let padding: &'static dyn RsaEncoding =
                    if header["alg"] == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                key.sign(padding, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(key) => key.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", encoded(&signature))
    }
}

pub(crate) fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A JWK set with these keys.
pub(crate) fn key_set(keys: impl IntoIterator<Item = Value>) -> String {
    json!({"keys": keys.into_iter().collect::<Vec<_>>()}).to_string()
}

/// The time `after` seconds from now, in seconds since the Unix epoch.
pub(crate) fn time(after: i64) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + after
}

/// The claims of a token that is valid for an hour.
pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "console", "exp": time(3600)})
}

/// The claims of a projected Kubernetes service-account token.
pub(crate) fn kubernetes_claims() -> Value {
    json!({
        "aud": [AUDIENCE, "another"],
        "exp": time(3607),
        "iat": time(0),
        "iss": ISSUER,
        "jti": "2a1b7c1e-7f0d-4b3a-9a39-0c0a1d9f4c11",
        "kubernetes.io": {
            "namespace": "mdm",
            "node": {"name": "n1", "uid": "f2c1"},
            "pod": {"name": "console-0", "uid": "5a0e"},
            "serviceaccount": {"name": "console", "uid": "cd5f"},
            "warnafter": time(3607),
        },
        "nbf": time(0),
        "sub": "system:serviceaccount:mdm:console",
    })
}
