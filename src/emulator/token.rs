//! Access tokens: issued for an assertion, asked for on each call, valid for a time.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;

use super::account::random;
use super::assertion::Rejection;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// How long a token that is over is remembered as such.
const MEMORY: Duration = Duration::from_secs(3600);

/// The tokens that are out, each with the moment its validity ends.
#[derive(Default)]
pub(super) struct Tokens {
    ends: HashMap<String, Instant>,
}

/// Why a call's token is not accepted. The names are those of `google.api.ErrorReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadToken {
    Missing,
    Expired,
    Unknown,
}

impl BadToken {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "CREDENTIALS_MISSING",
            Self::Expired => "ACCESS_TOKEN_EXPIRED",
            Self::Unknown => "ACCESS_TOKEN_TYPE_UNSUPPORTED",
        }
    }
}

impl Tokens {
    /// Issues a token that is valid for `lifetime`.
    pub(super) fn issue(&mut self, lifetime: Duration, now: Instant) -> io::Result<String> {
        self.ends.retain(|_, end| now.saturating_duration_since(*end) < MEMORY);
        let token = format!("ya29.c.{}", URL_SAFE_NO_PAD.encode(random::<96>()?));
        // A lifetime beyond what the clock can count ends with the process.
        let end = now.checked_add(lifetime).unwrap_or_else(|| now + MEMORY * 24 * 365);
        self.ends.insert(token.clone(), end);
        Ok(token)
    }

    /// Accepts the token of a call or says what is wrong with it.
    pub(super) fn accept(&self, token: Option<&str>, now: Instant) -> Result<(), BadToken> {
        match self.ends.get(token.ok_or(BadToken::Missing)?) {
            None => Err(BadToken::Unknown),
            Some(end) if *end <= now => Err(BadToken::Expired),
            Some(_) => Ok(()),
        }
    }

    /// Ends the validity of every token that is out.
    pub(super) fn revoke_all(&mut self, now: Instant) {
        for end in self.ends.values_mut() {
            *end = now.min(*end);
        }
    }
}

/// Takes the assertion out of the form that was posted to the token endpoint.
pub(super) fn assertion(form: &[u8]) -> Result<String, Rejection> {
    let field = |wanted: &str| {
        let found = form_urlencoded::parse(form).find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned()).ok_or_else(|| {
            let description = format!("Required parameter is missing: {wanted}");
            Rejection::new("invalid_request", description)
        })
    };
    let grant = field("grant_type")?;
    if grant != GRANT {
        let description = format!("Invalid grant_type: {grant}");
        return Err(Rejection::new("unsupported_grant_type", description));
    }
    field("assertion")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(65);

    #[test]
    fn a_token_is_valid_for_its_lifetime() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let token = tokens.issue(LIFETIME, now).unwrap();
        let late = now + LIFETIME;
        assert_eq!(tokens.accept(Some(&token), late - Duration::from_millis(1)), Ok(()));
        assert_eq!(tokens.accept(Some(&token), late), Err(BadToken::Expired));
    }

    #[test]
    fn a_token_that_was_never_issued_is_not_accepted() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let token = tokens.issue(LIFETIME, now).unwrap();
        assert_ne!(token, tokens.issue(LIFETIME, now).unwrap());
        assert_eq!(tokens.accept(Some(&token[..9]), now), Err(BadToken::Unknown));
        assert_eq!(tokens.accept(Some(""), now), Err(BadToken::Unknown));
        assert_eq!(tokens.accept(None, now), Err(BadToken::Missing));
    }

    #[test]
    fn revoked_tokens_are_over_and_new_ones_are_not() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let old = tokens.issue(LIFETIME, now).unwrap();
        tokens.revoke_all(now);
        let new = tokens.issue(LIFETIME, now).unwrap();
        assert_eq!(tokens.accept(Some(&old), now), Err(BadToken::Expired));
        assert_eq!(tokens.accept(Some(&new), now), Ok(()));
    }

    #[test]
    fn tokens_long_over_are_forgotten() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        for _ in 0..10 {
            tokens.issue(LIFETIME, now).unwrap();
        }
        tokens.issue(LIFETIME, now + LIFETIME + MEMORY).unwrap();
        assert_eq!(tokens.ends.len(), 1);
    }

    #[test]
    fn the_form_must_ask_for_a_jwt_grant() {
        let form = format!("grant_type={}&assertion=a.b.c%3D", GRANT.replace(':', "%3A"));
        assert_eq!(assertion(form.as_bytes()), Ok("a.b.c=".to_owned()));
        let refused = |form: &str| assertion(form.as_bytes()).map_err(|rejection| rejection.error);
        assert_eq!(refused(""), Err("invalid_request"));
        assert_eq!(refused(&format!("grant_type={GRANT}")), Err("invalid_request"));
        assert_eq!(refused("grant_type=password&assertion=a"), Err("unsupported_grant_type"));
    }
}
