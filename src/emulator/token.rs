//! Access tokens: issued for a proof of who asks, shown on each call, valid for a time.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::key::random_text;
use super::scope::Scopes;

/// How long a token that is over is remembered as such.
const MEMORY: Duration = Duration::from_secs(3600);

/// Who holds a token, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// A service account's or a person's address, or the identifier of a workload.
    pub(super) principal: Arc<str>,
    pub(super) scopes: Scopes,
}

/// The tokens that are out.
#[derive(Default)]
pub(super) struct Tokens {
    issued: HashMap<String, Issued>,
}

struct Issued {
    grant: Grant,
    /// The moment its validity ends.
    end: Instant,
}

/// Why a call's token is not accepted. The names are those of `google.api.ErrorReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadToken {
    Missing,
    Expired,
    Unknown,
    /// Its holder is disabled.
    Disabled,
}

impl BadToken {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "CREDENTIALS_MISSING",
            Self::Expired => "ACCESS_TOKEN_EXPIRED",
            Self::Unknown => "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            Self::Disabled => "ACCOUNT_STATE_INVALID",
        }
    }
}

impl Tokens {
    /// Issues a token that is valid for `lifetime`.
    pub(super) fn issue(&mut self, grant: Grant, lifetime: Duration, now: Instant) -> io::Result<String> {
        self.issued.retain(|_, issued| now.saturating_duration_since(issued.end) < MEMORY);
        let token = format!("ya29.c.{}", random_text::<96>()?);
        // A lifetime beyond what the clock can count ends with the process.
        let end = now.checked_add(lifetime).unwrap_or_else(|| now + MEMORY * 24 * 365);
        self.issued.insert(token.clone(), Issued { grant, end });
        Ok(token)
    }

    /// Every token that is remembered.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.issued.keys().map(String::as_str)
    }

    /// Who a token was issued to, be it valid or not.
    pub(super) fn holder(&self, token: &str) -> Option<Arc<str>> {
        self.issued.get(token).map(|issued| Arc::clone(&issued.grant.principal))
    }

    /// Accepts the token of a call or says what is wrong with it.
    pub(super) fn accept(&self, token: Option<&str>, now: Instant) -> Result<Grant, BadToken> {
        match self.issued.get(token.ok_or(BadToken::Missing)?) {
            None => Err(BadToken::Unknown),
            Some(issued) if issued.end <= now => Err(BadToken::Expired),
            Some(issued) => Ok(issued.grant.clone()),
        }
    }

    /// Ends the validity of every token that is out, or of those of one principal.
    pub(super) fn revoke(&mut self, principal: Option<&str>, now: Instant) {
        let concerned = |issued: &&mut Issued| principal.is_none_or(|one| *issued.grant.principal == *one);
        for issued in self.issued.values_mut().filter(concerned) {
            issued.end = now.min(issued.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(65);

    fn grant(principal: &str) -> Grant {
        Grant { principal: principal.into(), scopes: Scopes::of_machine() }
    }

    #[test]
    fn a_token_is_valid_for_its_lifetime() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let token = tokens.issue(grant("a"), LIFETIME, now).unwrap();
        let late = now + LIFETIME;
        assert_eq!(tokens.accept(Some(&token), late - Duration::from_millis(1)), Ok(grant("a")));
        assert_eq!(tokens.accept(Some(&token), late), Err(BadToken::Expired));
    }

    #[test]
    fn a_token_that_was_never_issued_is_not_accepted() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let token = tokens.issue(grant("a"), LIFETIME, now).unwrap();
        assert_ne!(token, tokens.issue(grant("a"), LIFETIME, now).unwrap());
        assert_eq!(tokens.accept(Some(&token[..9]), now), Err(BadToken::Unknown));
        assert_eq!(tokens.accept(Some(""), now), Err(BadToken::Unknown));
        assert_eq!(tokens.accept(None, now), Err(BadToken::Missing));
    }

    #[test]
    fn revoked_tokens_are_over_and_others_are_not() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let old = tokens.issue(grant("a"), LIFETIME, now).unwrap();
        let other = tokens.issue(grant("b"), LIFETIME, now).unwrap();
        tokens.revoke(Some("a"), now);
        let new = tokens.issue(grant("a"), LIFETIME, now).unwrap();
        assert_eq!(tokens.accept(Some(&old), now), Err(BadToken::Expired));
        assert_eq!(tokens.accept(Some(&other), now), Ok(grant("b")));
        assert_eq!(tokens.accept(Some(&new), now), Ok(grant("a")));
        tokens.revoke(None, now);
        assert_eq!(tokens.accept(Some(&other), now), Err(BadToken::Expired));
        assert_eq!(tokens.holder(&old).as_deref(), Some("a"));
    }

    #[test]
    fn tokens_long_over_are_forgotten() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        for _ in 0..10 {
            tokens.issue(grant("a"), LIFETIME, now).unwrap();
        }
        tokens.issue(grant("a"), LIFETIME, now + LIFETIME + MEMORY).unwrap();
        assert_eq!(tokens.issued.len(), 1);
    }
}
