//! Bearer tokens: JWTs (RFC 7519) of one issuer, verified by the keys that it publishes.
//!
//! The library checks signatures and reads keys. What stands in header and claims is checked here: the
//! library reads numbers in a way that the `arbitrary_precision` of serde_json, which other rooms need,
//! makes it miss each `exp`, takes a list for `iss`, and passes over `crit`.

use std::{io, sync::Arc, time::SystemTime};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, header};

use super::{
    Refusal,
    jwks::{Algorithm, Current, Endpoint, Keys, Renewal},
};
use crate::{
    caller::Caller,
    http_client::tls::TlsError,
    server::settings::{self, Jwks},
};

mod claims;
mod invalid;
mod known;
mod signed;

pub use invalid::InvalidToken;

use claims::Rules;
use known::Known;

/// The longest token, in bytes. Those of Kubernetes have about a thousand.
const LONGEST: usize = 16 * 1024;

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

impl Tokens {
    /// What verifies tokens by `settings`, and the task that keeps the keys fresh, which ends with it.
    ///
    /// # Errors
    ///
    /// See [`TokensError`].
    pub(super) fn new(settings: &settings::Jwt) -> Result<(Self, BoxFuture<'static, ()>), TokensError> {
        let settings::Jwt { issuer, audiences, algorithms, jwks } = settings;
        let (keys, task): (_, BoxFuture<'static, ()>) = match jwks {
            Jwks::File(file) => {
                let (keys, task) = Keys::of_file(file.clone(), algorithms.clone())?;
                (keys, Box::pin(task))
            }
            Jwks::Url { url, ca_certificates, token_file } => {
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
        match self.verify(token, now) {
            Err(InvalidToken::UnknownKey) => {}
            known => return Bearer::Now(known.map_err(Refusal::Token)),
        }
        match self.keys.renewal() {
            Renewal::Useless => refused(InvalidToken::UnknownKey),
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
        let verified = self.verify(token, unix_seconds());
        match (verified, self.keys.renewal()) {
            (Err(InvalidToken::UnknownKey), Renewal::Failing { retry_after }) => {
                Err(Refusal::KeysUnavailable { retry_after })
            }
            (verified, _) => verified.map_err(Refusal::Token),
        }
    }

    /// Verifies a token by the keys at hand, `now` in seconds of the Unix epoch.
    fn verify(&self, token: &[u8], now: u64) -> Result<Caller, InvalidToken> {
        let Current { keys, generation } = self.keys.current();
        let claims = signed::claims(token, keys.as_deref(), &self.algorithms)?;
        let (caller, until) = self.rules.check(claims, now)?;
        self.known.insert(token, generation, caller.clone(), until);
        Ok(caller)
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

/// The time as tokens tell it. A clock before 1970 lets every token expire.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
