//! Verifies bearer tokens: JWTs (RFC 7519) of one issuer, signed with the keys that the issuer publishes.
//!
//! jsonwebtoken parses keys and verifies signatures. This module checks the header and the claims, because
//! jsonwebtoken accepts a list as `iss`, ignores `crit`, and does not find `exp` with serde_json's
//! `arbitrary_precision`, which other modules need.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, header};
use lru::LruCache;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    Refusal,
    jwks::{Algorithm, KeySet, LoadedKeys},
    jwks_refresh::{CurrentKeys, IssuerKeys, Renewal},
};
use crate::{
    background::Background,
    caller::{Caller, Claims},
    fingerprint::fingerprint,
    http_client::tls::TlsError,
    server::settings::Jwt,
};

/// The maximum length of a token, in bytes. Kubernetes' tokens have about a thousand bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The maximum number of keys for verifying a token. Each verification costs CPU time for an unknown client.
const MAX_KEYS_TRIED: usize = 4;

/// The accepted clock skew between the issuer and this machine, in seconds.
const LEEWAY: u64 = 30;

/// Claims that differ between two tokens of one caller and are not available to policies. They are removed, so that
/// all tokens of a caller share entries of the policy's decision cache.
const PER_TOKEN_CLAIMS: [&str; 4] = ["exp", "nbf", "iat", "jti"];

/// The maximum number of tokens in the [`TokenCache`].
const MAX_CACHED_TOKENS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// A token is invalid. `Display` completes "the bearer token …" and never quotes the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// There are several `authorization` headers.
    #[error("is not the only authorization header")]
    Several,
    /// The token is longer than 16 KiB.
    #[error("is longer than 16 KiB")]
    TooLong,
    /// The token is not a signed JWT, or a part of it cannot be parsed.
    #[error("is not a JWT, or is malformed")]
    Malformed,
    /// The header requires an extension (`crit`). None is supported.
    #[error("has a critical extension (crit), and none is supported")]
    Critical,
    /// The algorithm is not accepted, or does not suit the key in `kid`.
    #[error("is signed with an algorithm that is not allowed")]
    Algorithm,
    /// No key of the issuer may have signed the token.
    #[error("is signed with an unknown key")]
    UnknownKey,
    /// The token has no `kid`, and more than four keys suit its algorithm.
    #[error("has no key ID (kid), and too many keys suit its algorithm")]
    NoKeyId,
    /// The signature is not from the key in `kid`.
    #[error("has an invalid signature")]
    Signature,
    /// The token has no `exp`, or `exp` is not a number.
    #[error("has no expiry (exp)")]
    NoExpiry,
    /// `exp` has passed.
    #[error("has expired")]
    Expired,
    /// `nbf` is in the future, or not a number.
    #[error("is not valid yet (nbf)")]
    NotYetValid,
    /// `iss` is another issuer.
    #[error("is from another issuer (iss)")]
    Issuer,
    /// `aud` has no audience of this service.
    #[error("is for another audience (aud)")]
    Audience,
    /// The token has no `sub`.
    #[error("has no subject (sub)")]
    NoSubject,
}

/// The caller in a request's bearer token.
pub(super) enum Bearer {
    /// The request has no bearer token.
    None,
    /// The result is known.
    Now(Result<Caller, Refusal>),
    /// The result is known after a fetch of the issuer's keys.
    Later(BoxFuture<'static, Result<Caller, Refusal>>),
}

/// Verifies tokens.
pub(super) struct TokenVerifier {
    issuer: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    keys: IssuerKeys,
    cache: TokenCache,
}

impl TokenVerifier {
    /// Creates a verifier and starts the task that refreshes the issuer's keys. The drop aborts the task.
    ///
    /// # Errors
    ///
    /// The HTTP client for fetching the keys cannot be built.
    pub(super) fn new(settings: &Jwt, keys: LoadedKeys, background: &Background) -> Result<Self, TlsError> {
        let Jwt { issuer, audiences, algorithms, jwks: _ } = settings;
        let keys = keys.start(algorithms, background)?;
        Ok(Self {
            issuer: issuer.clone(),
            audiences: audiences.clone(),
            algorithms: algorithms.clone(),
            keys,
            cache: TokenCache::new(),
        })
    }

    /// The caller in the bearer token of a request with these headers.
    pub(super) fn bearer(self: &Arc<Self>, headers: &HeaderMap) -> Bearer {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let Some(header) = all.next() else { return Bearer::None };
        if all.next().is_some() {
            return refused(InvalidToken::Several);
        }
        let Some(token) = bearer_token(header) else { return Bearer::None };
        if token.len() > MAX_TOKEN_BYTES {
            return refused(InvalidToken::TooLong);
        }
        let now = unix_seconds();
        if let Some(caller) = self.cache.get(token, self.keys.generation(), now) {
            return Bearer::Now(Ok(caller));
        }
        match self.verify(token, now) {
            Err(InvalidToken::UnknownKey) => {}
            verified => return Bearer::Now(verified.map_err(Refusal::Token)),
        }
        match self.keys.renewal() {
            Renewal::Useless => refused(InvalidToken::UnknownKey),
            Renewal::Failing { retry_after } => Bearer::Now(Err(Refusal::KeysUnavailable { retry_after })),
            Renewal::Worthwhile => {
                let (verifier, header, renewed) = (Arc::clone(self), header.clone(), self.keys.renewed());
                Bearer::Later(Box::pin(async move {
                    renewed.await;
                    verifier.verify_after_renewal(&header)
                }))
            }
        }
    }

    /// Verifies a token after a fetch of the keys, without a second fetch.
    fn verify_after_renewal(&self, header: &HeaderValue) -> Result<Caller, Refusal> {
        let token = bearer_token(header).ok_or(Refusal::Token(InvalidToken::Malformed))?;
        let verified = self.verify(token, unix_seconds());
        match (verified, self.keys.renewal()) {
            (Err(InvalidToken::UnknownKey), Renewal::Failing { retry_after }) => {
                Err(Refusal::KeysUnavailable { retry_after })
            }
            (verified, _) => verified.map_err(Refusal::Token),
        }
    }

    /// Verifies a token with the current keys. `now` is in seconds since the Unix epoch.
    fn verify(&self, token: &[u8], now: u64) -> Result<Caller, InvalidToken> {
        let CurrentKeys { keys, generation } = self.keys.current();
        let claims = signed_claims(token, keys.as_deref(), &self.algorithms)?;
        let (caller, until) = caller(claims, &self.issuer, &self.audiences, now)?;
        self.cache.insert(token, generation, caller.clone(), until);
        Ok(caller)
    }
}

fn refused(error: InvalidToken) -> Bearer {
    Bearer::Now(Err(Refusal::Token(error)))
}

/// The token of an `authorization` header with the scheme Bearer, in any case (RFC 9110, section 11.1; RFC 6750,
/// section
/// 2.1). `None` for another scheme, which may be for a proxy.
fn bearer_token(header: &HeaderValue) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = header.as_bytes().split_at_checked(SCHEME.len())?;
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(SCHEME) && ends).then(|| rest.trim_ascii())
}

/// The time in seconds since the Unix epoch. With a clock before 1970, every token has expired.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}

/// The used fields of a JWS header (RFC 7515, section 4.1). Fields with keys or URLs of keys are ignored.
#[derive(Deserialize)]
struct JwsHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// The claims of a token (a JWS, RFC 7515) that is signed with one of `keys` and one of the `allowed` algorithms.
/// `keys` is `None` before the first fetch.
///
/// # Errors
///
/// The token is malformed, or its signature is not valid.
fn signed_claims(
    token: &[u8],
    keys: Option<&KeySet>,
    allowed: &[Algorithm],
) -> Result<Map<String, Value>, InvalidToken> {
    let token = str::from_utf8(token).map_err(|_| InvalidToken::Malformed)?;
    let (message, signature) = token.rsplit_once('.').ok_or(InvalidToken::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(InvalidToken::Malformed)?;
    if claims.contains('.') {
        return Err(InvalidToken::Malformed);
    }
    let JwsHeader { alg, kid, crit } = decode_part(header)?;
    if crit.is_some() {
        return Err(InvalidToken::Critical);
    }
    let algorithm = alg.parse().map_err(|_| InvalidToken::Algorithm)?;
    if !allowed.contains(&algorithm) {
        return Err(InvalidToken::Algorithm);
    }
    let keys = keys.ok_or(InvalidToken::UnknownKey)?;
    let mut candidates = keys.candidates(kid.as_deref()).peekable();
    candidates.peek().ok_or(InvalidToken::UnknownKey)?;
    let suitable: Vec<_> = candidates.filter(|key| key.suits(algorithm)).take(MAX_KEYS_TRIED + 1).collect();
    match suitable.len() {
        0 => return Err(InvalidToken::Algorithm),
        1..=MAX_KEYS_TRIED => {}
        _ => return Err(InvalidToken::NoKeyId),
    }
    if suitable.iter().any(|key| key.verifies(message.as_bytes(), signature, algorithm)) {
        return decode_part(claims);
    }
    // With an ID in the token and in the key, the key is the signer's. Otherwise a fetch may return the signer's
    // key.
    let is_identified = kid.is_some() && suitable.iter().any(|key| key.has_id());
    Err(if is_identified { InvalidToken::Signature } else { InvalidToken::UnknownKey })
}

/// Decodes a part of a token, the base64url of a JSON object.
fn decode_part<T: DeserializeOwned>(encoded: &str) -> Result<T, InvalidToken> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| InvalidToken::Malformed)
}

/// The caller in these claims, and the expiry of the token in seconds since the Unix epoch.
///
/// # Errors
///
/// The claims are not from `issuer`, not for one of `audiences`, or not valid at `now`, in seconds since the Unix
/// epoch (RFC 7519, section 4.1).
fn caller(
    mut claims: Map<String, Value>,
    issuer: &str,
    audiences: &[String],
    now: u64,
) -> Result<(Caller, u64), InvalidToken> {
    let until = numeric_date(claims.get("exp")).ok_or(InvalidToken::NoExpiry)?.saturating_add(LEEWAY);
    if now >= until {
        return Err(InvalidToken::Expired);
    }
    if let Some(from) = claims.get("nbf")
        && numeric_date(Some(from)).is_none_or(|from| now.saturating_add(LEEWAY) < from)
    {
        return Err(InvalidToken::NotYetValid);
    }
    if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
        return Err(InvalidToken::Issuer);
    }
    // A text, or a list of texts.
    let is_ours = |audience: &Value| {
        audience.as_str().is_some_and(|audience| audiences.iter().any(|ours| ours == audience))
    };
    let is_for_us = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    };
    if !is_for_us {
        return Err(InvalidToken::Audience);
    }
    let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.is_empty());
    let subject = subject.ok_or(InvalidToken::NoSubject)?.to_owned();
    for claim in PER_TOKEN_CLAIMS {
        claims.remove(claim);
    }
    let mut flat = Claims::new();
    for (name, value) in claims {
        flatten(name, &value, &mut flat);
    }
    Ok((Caller::of_token(issuer.to_owned(), subject, flat), until))
}

/// A NumericDate (RFC 7519, section 2) in whole seconds. Fractions are truncated. `None` for a value that is not a
/// number or is before the epoch.
fn numeric_date(time: Option<&Value>) -> Option<u64> {
    let time = time?.as_f64().filter(|time| *time >= 0.0)?;
    // The cast saturates.
    Some(time as u64)
}

/// Adds the values of a claim to `into`: each item of a list, and each member of an object as `name/member`. A
/// claim with the name `name/member` adds to the same values.
fn flatten(name: String, value: &Value, into: &mut Claims) {
    let text = match value {
        Value::Null => return,
        Value::Array(list) => return list.iter().for_each(|item| flatten(name.clone(), item, into)),
        Value::Object(members) => {
            for (member, value) in members {
                flatten(format!("{name}/{member}"), value, into);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    into.entry(name).or_default().insert(text);
}

/// Caches the callers of verified tokens, because a client sends the same token with every call, and verifying a
/// signature takes about 50 µs. The cache key is a digest of the token. Only tokens that are valid with the current
/// keys are cached.
struct TokenCache(Mutex<CachedTokens>);

struct CachedTokens {
    /// The generation of the keys.
    generation: u64,
    /// The caller, and the expiry of the token in seconds since the Unix epoch.
    by_digest: LruCache<[u8; 32], (Caller, u64)>,
}

impl TokenCache {
    fn new() -> Self {
        Self(Mutex::new(CachedTokens { generation: 0, by_digest: LruCache::new(MAX_CACHED_TOKENS) }))
    }

    /// The caller in `token`, if the keys of this generation verified the token and it has not expired at `now`.
    fn get(&self, token: &[u8], generation: u64, now: u64) -> Option<Caller> {
        let mut tokens = self.lock(generation)?;
        let digest = fingerprint(token);
        let (caller, until) = tokens.by_digest.get(&digest)?;
        if now < *until {
            return Some(caller.clone());
        }
        tokens.by_digest.pop(&digest);
        None
    }

    /// Adds a token that the keys of this generation have verified.
    fn insert(&self, token: &[u8], generation: u64, caller: Caller, until: u64) {
        if let Some(mut tokens) = self.lock(generation) {
            tokens.by_digest.put(fingerprint(token), (caller, until));
        }
    }

    /// The tokens of this generation. Removes the tokens of an older generation. `None` when `generation` is older.
    fn lock(&self, generation: u64) -> Option<MutexGuard<'_, CachedTokens>> {
        // A panic cannot leave the cache in an inconsistent state.
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.generation < generation {
            tokens.generation = generation;
            tokens.by_digest.clear();
        }
        (tokens.generation == generation).then_some(tokens)
    }
}

#[cfg(test)]
mod tests;
