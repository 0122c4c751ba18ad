//! The assertion: the signed JWT with which a service account requests an access token.
//!
//! The checks and the error texts are those of Google's token endpoint
//! (<https://developers.google.com/identity/protocols/oauth2/service-account>).

use std::time::Duration;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::access_token::{Scopes, TokenGrant};
use crate::account::{Account, Accounts};
use crate::token_endpoint::OAuthError;

/// The audience of Google's own endpoint, which Google's Python library always signs.
const GOOGLE_AUDIENCE: &str = "https://oauth2.googleapis.com/token";

/// The tolerated clock skew.
const MAX_SKEW: Duration = Duration::from_secs(300);

/// The maximum validity of an assertion.
const MAX_VALIDITY: Duration = Duration::from_secs(3600);

/// Base64url with or without padding. RFC 7515 has none, but some clients (yup-oauth2 is one) pad each part and sign
/// the padded text, and Google accepts both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

/// The claims as JSON values, so that a claim of another type is an invalid claim, not invalid JSON.
#[derive(Deserialize)]
struct Claims {
    iss: Option<Value>,
    sub: Option<Value>,
    aud: Option<Value>,
    scope: Option<Value>,
    iat: Option<Value>,
    exp: Option<Value>,
}

/// Checks an assertion at `now`, the time since 1970, and returns the grant of its token. `token_url` is the audience
/// beside Google's own.
pub(crate) fn check(
    assertion: &str,
    accounts: &Accounts,
    token_url: &str,
    now: Duration,
) -> Result<TokenGrant, OAuthError> {
    let malformed = |problem: &str| OAuthError::invalid_grant(format!("Invalid JWT: {problem}"));
    let (signed, signature) =
        assertion.rsplit_once('.').ok_or_else(|| malformed("not three parts joined by dots."))?;
    let (header, claims) =
        signed.split_once('.').ok_or_else(|| malformed("not three parts joined by dots."))?;
    let header: Header = part(header).ok_or_else(|| malformed("the header cannot be read."))?;
    let claims: Claims = part(claims).ok_or_else(|| malformed("the claims cannot be read."))?;
    let signature =
        BASE64.decode(signature).map_err(|_| OAuthError::invalid_grant("Invalid JWT Signature."))?;

    if header.alg != "RS256" {
        return Err(malformed("the algorithm must be RS256."));
    }
    let issuer = text(&claims.iss).filter(|issuer| !accounts.is_disabled(issuer));
    let account = issuer.and_then(|issuer| accounts.find(issuer));
    let account = account.ok_or_else(|| OAuthError::invalid_grant("Invalid grant: account not found"))?;
    let is_other_key = header.kid.is_some_and(|kid| kid != account.key_id);
    // The signature covers the text as it was sent, including padding.
    if is_other_key || !accounts.key.verifies(signed.as_bytes(), &signature) {
        return Err(OAuthError::invalid_grant("Invalid JWT Signature."));
    }
    check_claims(&claims, account, token_url, now)
}

fn check_claims(
    claims: &Claims,
    account: &Account,
    token_url: &str,
    now: Duration,
) -> Result<TokenGrant, OAuthError> {
    if !text(&claims.aud).is_some_and(|aud| aud == token_url || aud == GOOGLE_AUDIENCE) {
        let message = format!("Invalid JWT: Failed audience check. The right audience is {token_url}");
        return Err(OAuthError::invalid_grant(message));
    }
    check_times(seconds(&claims.iat), seconds(&claims.exp), now)?;
    // A subject other than the account needs domain-wide delegation, which no account here has.
    let subject = claims.sub.as_ref().is_some_and(|sub| !sub.is_null());
    if subject && text(&claims.sub) != Some(&*account.email) {
        let description = "Client is unauthorized to retrieve access tokens using this method, or \
                           client not authorized for any of the scopes requested.";
        return Err(OAuthError::new("unauthorized_client", description).with_status(StatusCode::UNAUTHORIZED));
    }
    let description = "Invalid OAuth scope or ID token audience provided.";
    let scopes = Scopes::parse(text(&claims.scope).unwrap_or_default());
    let scopes = scopes.ok_or_else(|| OAuthError::new("invalid_scope", description))?;
    Ok(TokenGrant { principal: account.email.clone(), scopes })
}

fn check_times(issued: Option<Duration>, expires: Option<Duration>, now: Duration) -> Result<(), OAuthError> {
    let valid = issued.zip(expires).is_some_and(|(issued, expires)| {
        issued < expires
            && expires - issued <= MAX_VALIDITY
            && issued <= now + MAX_SKEW
            && now < expires.saturating_add(MAX_SKEW)
    });
    let message = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable \
                   timeframe. Check your iat and exp values in the JWT claim.";
    if valid { Ok(()) } else { Err(OAuthError::invalid_grant(message)) }
}

fn part<T: for<'a> Deserialize<'a>>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&BASE64.decode(encoded).ok()?).ok()
}

fn text(claim: &Option<Value>) -> Option<&str> {
    claim.as_ref()?.as_str()
}

/// A `NumericDate` (RFC 7519), which may have decimals.
fn seconds(claim: &Option<Value>) -> Option<Duration> {
    let claim = claim.as_ref()?;
    claim.as_u64().map(Duration::from_secs).or_else(|| Duration::try_from_secs_f64(claim.as_f64()?).ok())
}

#[cfg(test)]
mod tests;
