//! A token's form and signature (JWS, RFC 7515).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::InvalidToken;
use crate::server::identity::jwks::{Algorithm, KeySet};

/// The most keys that a token is tried with. Each costs a signature's time, on anybody's word.
const MOST_TRIED: usize = 4;

/// The part of a token's header that is looked at (RFC 7515, section 4.1). Where it says to find keys is not.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// The claims of a token that one of `keys` has signed, by one of the `allowed` algorithms; there are no keys
/// before the first fetch.
///
/// # Errors
///
/// It is malformed, or not signed so.
pub(super) fn claims(
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
    let Header { alg, kid, crit } = part(header)?;
    if crit.is_some() {
        return Err(InvalidToken::Critical);
    }
    let algorithm = alg.parse().map_err(|_| InvalidToken::Algorithm)?;
    if !allowed.contains(&algorithm) {
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
    if fitting.iter().any(|key| key.has_signed(message.as_bytes(), signature, algorithm)) {
        return part(claims);
    }
    // A key that is named by both sides is the right one. Of others, the right one may be still unknown.
    let is_named = kid.is_some() && fitting.iter().any(|key| key.has_id());
    Err(if is_named { InvalidToken::Signature } else { InvalidToken::UnknownKey })
}

/// A part of a token, which is the base64url of a JSON object.
fn part<T: DeserializeOwned>(encoded: &str) -> Result<T, InvalidToken> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| InvalidToken::Malformed)
}
