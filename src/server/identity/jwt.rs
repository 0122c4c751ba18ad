//! Bearer tokens: JWTs (RFC 7519) of one issuer, verified by the keys that it publishes.
//!
//! The library checks signatures and reads keys. What stands in header and claims is checked here: the
//! library reads numbers in a way that the `arbitrary_precision` of serde_json, which other rooms need,
//! makes it miss each `exp`, takes a list for `iss`, and passes over `crit`.

use std::{io, sync::Arc, time::SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Refusal,
    jwks::{Algorithm, Current, Endpoint, KeySet, Keys, Renewal},
};
use crate::{caller::Caller, config, http_client::tls::TlsError};

mod claims;
mod known;

use claims::Rules;
use known::Known;

/// The longest token, in bytes. Those of Kubernetes have about a thousand.
const LONGEST: usize = 16 * 1024;

/// The most keys that a token is tried with. Each costs a signature's time, on anybody's word.
const MOST_TRIED: usize = 4;

/// Why a token is not believed. `Display` completes "the bearer token …", and repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// There are several `authorization` headers.
    #[error("is not the only authorization header")]
    Several,
    /// It is longer than 16 KiB.
    #[error("is longer than 16 KiB")]
    TooLong,
    /// It is not a signed JWT whose parts can be read.
    #[error("is no JWT, or malformed")]
    Malformed,
    /// Its header names extensions that have to be understood (`crit`), and none is.
    #[error("has a critical extension (crit), and none is supported")]
    Critical,
    /// Its algorithm is not allowed, or is none of the key that it names.
    #[error("is signed by an algorithm that is not allowed")]
    Algorithm,
    /// No key that it could be signed by is known.
    #[error("is signed by an unknown key")]
    UnknownKey,
    /// It does not name its key, and more fit than are tried.
    #[error("does not name its key (kid), and there are too many to try")]
    NoKeyId,
    /// Its signature is not that of the key.
    #[error("has a bad signature")]
    Signature,
    /// It has no `exp`, or one that is no number.
    #[error("does not say when it expires (exp)")]
    NoExpiry,
    /// Its `exp` has passed.
    #[error("has expired")]
    Expired,
    /// Its `nbf` is still to come, or is no number.
    #[error("is not valid yet (nbf)")]
    NotYetValid,
    /// Its `iss` is not the issuer that is believed.
    #[error("is of another issuer (iss)")]
    Issuer,
    /// Its `aud` is not, or does not hold, an audience that is ours.
    #[error("is for another audience (aud)")]
    Audience,
    /// It has no `sub`.
    #[error("does not say whom it is about (sub)")]
    NoSubject,
}

/// Why tokens cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The certificates of `jwks_ca_certificates` cannot be used.
    #[error("callers.jwt.jwks_ca_certificates: {0}")]
    Tls(#[from] TlsError),
    /// The file of keys cannot be read, or holds none.
    #[error("callers.jwt.jwks: {0}")]
    File(#[from] io::Error),
}

/// Who a request's token says calls.
pub(super) enum Bearer {
    /// It has none that is for us.
    None,
    /// Known at once.
    Now(Result<Caller, Refusal>),
    /// Known when the issuer's keys have been fetched.
    Later(BoxFuture<'static, Result<Caller, Refusal>>),
}

/// What verifies tokens.
pub(super) struct Tokens {
    rules: Rules,
    algorithms: Vec<Algorithm>,
    keys: Keys,
    known: Known,
}

/// The part of a token's header that is looked at (RFC 7515, section 4.1). Where it says to find keys is not.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// What came of one look at the keys.
enum Verdict {
    Final(Result<Caller, InvalidToken>),
    /// No key at hand has signed it. Should another one not either, this is why.
    AnotherKey(InvalidToken),
}

impl Tokens {
    /// What verifies tokens by `config`, and the task that keeps the keys fresh, which ends with it.
    ///
    /// # Errors
    ///
    /// See [`TokensError`].
    pub(super) fn new(config: &config::Jwt) -> Result<(Self, BoxFuture<'static, ()>), TokensError> {
        let config::Jwt { issuer, audiences, algorithms, jwks } = config;
        let (keys, task): (_, BoxFuture<'static, ()>) = match jwks {
            config::Jwks::File(file) => {
                let (keys, task) = Keys::of_file(file.clone(), algorithms.clone())?;
                (keys, Box::pin(task))
            }
            config::Jwks::Url { url, ca_certificates, token_file } => {
                let ca = ca_certificates.as_deref();
                let endpoint = Endpoint::new(url.clone(), ca, token_file.clone())?;
                let (keys, task) = Keys::fetched(endpoint, algorithms.clone());
                (keys, Box::pin(task))
            }
        };
        let rules = Rules { issuer: issuer.clone(), audiences: audiences.clone() };
        Ok((Self { rules, algorithms: algorithms.clone(), keys, known: Known::new() }, task))
    }

    /// Who the bearer token of a request is about.
    pub(super) fn bearer(self: &Arc<Self>, headers: &HeaderMap) -> Bearer {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let Some(header) = all.next() else { return Bearer::None };
        if all.next().is_some() {
            return refused(InvalidToken::Several);
        }
        let Some(token) = bearer_token(header) else { return Bearer::None };
        if token.len() > LONGEST {
            return refused(InvalidToken::TooLong);
        }
        let now = unix_seconds();
        if let Some(caller) = self.known.get(token, self.keys.generation(), now) {
            return Bearer::Now(Ok(caller));
        }
        let why = match self.verify(token, now) {
            Verdict::Final(result) => return Bearer::Now(result.map_err(Refusal::Token)),
            Verdict::AnotherKey(why) => why,
        };
        match self.keys.renewal() {
            Renewal::Useless => refused(why),
            Renewal::Failing { retry_after } => Bearer::Now(Err(Refusal::KeysUnavailable { retry_after })),
            Renewal::Worthwhile => {
                let (tokens, header, renewed) = (Arc::clone(self), header.clone(), self.keys.renewed());
                Bearer::Later(Box::pin(async move {
                    renewed.await;
                    tokens.verify_again(&header)
                }))
            }
        }
    }

    /// After a fetch of the keys: there is no other to wait for.
    fn verify_again(&self, header: &HeaderValue) -> Result<Caller, Refusal> {
        let token = bearer_token(header).ok_or(Refusal::Token(InvalidToken::Malformed))?;
        match self.verify(token, unix_seconds()) {
            Verdict::Final(result) => result.map_err(Refusal::Token),
            Verdict::AnotherKey(why) => Err(match self.keys.renewal() {
                Renewal::Failing { retry_after } => Refusal::KeysUnavailable { retry_after },
                Renewal::Useless | Renewal::Worthwhile => Refusal::Token(why),
            }),
        }
    }

    /// Verifies a token by the keys at hand, `now` in seconds of the Unix epoch.
    fn verify(&self, token: &[u8], now: u64) -> Verdict {
        let Current { keys, generation } = self.keys.current();
        let claims = match self.signed_claims(token, keys.as_deref()) {
            Ok(claims) => claims,
            Err(why @ (InvalidToken::UnknownKey | InvalidToken::Signature)) => {
                return Verdict::AnotherKey(why);
            }
            Err(why) => return Verdict::Final(Err(why)),
        };
        Verdict::Final(self.rules.check(claims, now).map(|(caller, until)| {
            self.known.insert(token, generation, caller.clone(), until);
            caller
        }))
    }

    /// The claims of a token that one of `keys` has signed; there are none before the first fetch.
    fn signed_claims(&self, token: &[u8], keys: Option<&KeySet>) -> Result<Map<String, Value>, InvalidToken> {
        let token = str::from_utf8(token).map_err(|_| InvalidToken::Malformed)?;
        let (message, signature) = token.rsplit_once('.').ok_or(InvalidToken::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(InvalidToken::Malformed)?;
        if claims.contains('.') {
            return Err(InvalidToken::Malformed);
        }
        let Header { alg, kid, crit } = part(header)?;
        if crit.is_some() {
            return Err(InvalidToken::Critical);
        }
        let algorithm = alg.parse().map_err(|_| InvalidToken::Algorithm)?;
        if !self.algorithms.contains(&algorithm) {
            return Err(InvalidToken::Algorithm);
        }
        let keys = keys.ok_or(InvalidToken::UnknownKey)?;
        let mut named = keys.named(kid.as_deref()).peekable();
        named.peek().ok_or(InvalidToken::UnknownKey)?;
        let fitting: Vec<_> = named.filter(|key| key.fits(algorithm)).take(MOST_TRIED + 1).collect();
        match fitting.len() {
            0 => return Err(InvalidToken::Algorithm),
            1..=MOST_TRIED => {}
            _ => return Err(InvalidToken::NoKeyId),
        }
        if !fitting.iter().any(|key| key.has_signed(message.as_bytes(), signature, algorithm)) {
            return Err(InvalidToken::Signature);
        }
        part(claims)
    }
}

fn refused(why: InvalidToken) -> Bearer {
    Bearer::Now(Err(Refusal::Token(why)))
}

/// The token of an `authorization` header of the scheme Bearer, in any case (RFC 9110, section 11.1; RFC
/// 6750, section 2.1). Other schemes are not for us: a proxy on the way may have had its own use for them.
fn bearer_token(header: &HeaderValue) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = header.as_bytes().split_at_checked(SCHEME.len())?;
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(SCHEME) && ends).then(|| rest.trim_ascii())
}

/// A part of a token, which is the base64url of a JSON object.
fn part<T: serde::de::DeserializeOwned>(encoded: &str) -> Result<T, InvalidToken> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| InvalidToken::Malformed)
}

/// The time as tokens tell it. A clock before 1970 lets every token expire.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
