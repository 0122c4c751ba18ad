//! Bearer tokens: JWTs (RFC 7519) of one issuer, verified by the keys that it publishes.
//!
//! jsonwebtoken parses keys and verifies signatures. This module checks header and claims itself, because
//! jsonwebtoken accepts a list as `iss`, ignores `crit`, and finds no `exp` when serde_json's
//! `arbitrary_precision` is on, which other modules need.

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

/// The longest token in bytes. Kubernetes' tokens have about a thousand.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The most keys that a token is verified with. Each verification costs CPU time before the client is known.
const MAX_KEYS_TRIED: usize = 4;

/// The clock skew between the issuer and this machine that is accepted, in seconds.
const LEEWAY: u64 = 30;

/// Claims that differ between two tokens of one caller, and that no policy can decide by. Without them, all
/// tokens of a caller are one caller to the policy's cache of decisions.
const PER_TOKEN_CLAIMS: [&str; 4] = ["exp", "nbf", "iat", "jti"];

/// The most tokens in the [`TokenCache`].
const MAX_CACHED_TOKENS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// The reason why a token is not accepted. `Display` completes "the bearer token …", and quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// There are several `authorization` headers.
    #[error("is not the only authorization header")]
    Several,
    /// It is longer than 16 KiB.
    #[error("is longer than 16 KiB")]
    TooLong,
    /// It is not a signed JWT, or a part of it cannot be parsed.
    #[error("is no JWT, or malformed")]
    Malformed,
    /// Its header requires an extension (`crit`), and none is supported.
    #[error("has a critical extension (crit), and none is supported")]
    Critical,
    /// Its algorithm is not accepted, or does not suit the key that it names.
    #[error("is signed by an algorithm that is not allowed")]
    Algorithm,
    /// The issuer's keys have none that may have signed it.
    #[error("is signed by an unknown key")]
    UnknownKey,
    /// It has no `kid`, and more than four keys suit its algorithm.
    #[error("does not name its key (kid), and there are too many to try")]
    NoKeyId,
    /// Its signature is not by the key that it names.
    #[error("has a bad signature")]
    Signature,
    /// It has no `exp`, or one that is no number.
    #[error("does not say when it expires (exp)")]
    NoExpiry,
    /// Its `exp` has passed.
    #[error("has expired")]
    Expired,
    /// Its `nbf` is in the future, or is no number.
    #[error("is not valid yet (nbf)")]
    NotYetValid,
    /// Its `iss` is another issuer.
    #[error("is of another issuer (iss)")]
    Issuer,
    /// Its `aud` has no audience of this service.
    #[error("is for another audience (aud)")]
    Audience,
    /// It has no `sub`.
    #[error("does not say whom it is about (sub)")]
    NoSubject,
}

/// The caller by a request's bearer token.
pub(super) enum Bearer {
    /// The request has no bearer token.
    None,
    /// The result is known.
    Now(Result<Caller, Refusal>),
    /// The result is known once the issuer's keys have been fetched.
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
    /// A verifier, and the task that refreshes the issuer's keys, which is aborted when the verifier is dropped.
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

    /// The caller by the bearer token of a request with these headers.
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

    /// Verifies a token after a fetch of the keys. There is no second fetch for it.
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

    /// Verifies a token by the current keys. `now` is in seconds of the Unix epoch.
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

/// The token of an `authorization` header of the scheme Bearer, in any case (RFC 9110, section 11.1; RFC 6750,
/// section 2.1). `None` for another scheme, which a proxy on the way may use.
fn bearer_token(header: &HeaderValue) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = header.as_bytes().split_at_checked(SCHEME.len())?;
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(SCHEME) && ends).then(|| rest.trim_ascii())
}

/// The time in seconds of the Unix epoch. With a clock before 1970, every token has expired.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}

/// The fields of a JWS header that are used (RFC 7515, section 4.1). Fields that point to keys are not.
#[derive(Deserialize)]
struct JwsHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// The claims of a token (a JWS, RFC 7515) that one of `keys` signed by one of the `allowed` algorithms. `keys`
/// is `None` before the first fetch.
///
/// # Errors
///
/// The token is malformed, or not signed so.
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
    // With an ID on both sides, the key is the right one. Otherwise the right key may not have been fetched yet.
    let is_identified = kid.is_some() && suitable.iter().any(|key| key.has_id());
    Err(if is_identified { InvalidToken::Signature } else { InvalidToken::UnknownKey })
}

/// Decodes a part of a token, the base64url of a JSON object.
fn decode_part<T: DeserializeOwned>(encoded: &str) -> Result<T, InvalidToken> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| InvalidToken::Malformed)
}

/// The caller by these claims, and the second of the Unix epoch at which the token expires.
///
/// # Errors
///
/// The claims are not from `issuer` for one of `audiences`, or not valid at the time `now`, in seconds of the
/// Unix epoch (RFC 7519, section 4.1).
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

/// A NumericDate (RFC 7519, section 2), which may have a fraction, in whole seconds. `None` for a value that is
/// no number, or before the epoch.
fn numeric_date(time: Option<&Value>) -> Option<u64> {
    let time = time?.as_f64().filter(|time| *time >= 0.0)?;
    // The cast saturates.
    Some(time as u64)
}

/// Adds the values of a claim to `into`: each item of a list, and each member of an object as `name/member`. A
/// claim whose own name is `name/member` adds to the same values.
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

/// The callers of verified tokens, because a client sends the same token with every call, and verifying a
/// signature costs about 50 µs. The key is a digest of the token. Only tokens that the current keys have
/// verified are in it.
struct TokenCache(Mutex<CachedTokens>);

struct CachedTokens {
    /// The generation of the keys.
    generation: u64,
    /// The caller, and the second of the Unix epoch at which the token expires.
    by_digest: LruCache<[u8; 32], (Caller, u64)>,
}

impl TokenCache {
    fn new() -> Self {
        Self(Mutex::new(CachedTokens { generation: 0, by_digest: LruCache::new(MAX_CACHED_TOKENS) }))
    }

    /// The caller by `token`, if the keys of this generation verified it and it has not expired `now`.
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

    /// The tokens of this generation, after removing those of an older one; `None` when `generation` itself is
    /// older.
    fn lock(&self, generation: u64) -> Option<MutexGuard<'_, CachedTokens>> {
        // No holder of the lock can panic halfway through a change.
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
