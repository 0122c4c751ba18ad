//! Access tokens: scopes, issuing, and the authorization of API calls.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::request::Parts;
use tokio::time::Instant;

use crate::api_error::ApiError;
use crate::key::random_text;
use crate::shared::{Shared, lock};

/// The only scope of the Android Management API (its discovery document, `auth`).
pub(crate) const ANDROID_MANAGEMENT: &str = "https://www.googleapis.com/auth/androidmanagement";

/// The scope of the Google Cloud APIs. It gives no access to the Android Management API.
pub(crate) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The IAM Credentials API accepts this scope or [`CLOUD_PLATFORM`].
pub(crate) const IAM: &str = "https://www.googleapis.com/auth/iam";

/// The scopes that the emulator knows: those of the Android Management API and of IAM Credentials, and those that
/// gcloud requests at a user's login.
const SCOPES: [&str; 6] = [
    ANDROID_MANAGEMENT,
    CLOUD_PLATFORM,
    IAM,
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/sqlservice.login",
    "openid",
];

/// The time for which an expired token is remembered.
const EXPIRED_RETENTION: Duration = Duration::from_secs(3600);

/// The maximum number of recent calls whose principal is kept.
const MAX_CALLERS: usize = 1000;

/// A set of scopes, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scopes(Vec<&'static str>);

impl Scopes {
    /// The scopes of a user's gcloud login, which does not request the scope of IAM Credentials.
    pub(crate) fn consented() -> Self {
        Self(SCOPES.into_iter().filter(|scope| *scope != IAM).collect())
    }

    /// A machine's default scopes.
    pub(crate) fn of_machine() -> Self {
        Self(vec![CLOUD_PLATFORM])
    }

    /// Finds scopes by their names; `None` if `names` is empty or contains an unknown scope.
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let find = |name: &str| SCOPES.into_iter().find(|scope| *scope == name);
        let scopes: Vec<_> = names.into_iter().map(find).collect::<Option<_>>()?;
        (!scopes.is_empty()).then_some(Self(scopes))
    }

    /// Parses a list separated by spaces (RFC 6749 section 3.3).
    pub(crate) fn parse(list: &str) -> Option<Self> {
        Self::of(list.split_ascii_whitespace())
    }

    pub(crate) fn allow_any(&self, wanted: &[&str]) -> bool {
        self.0.iter().any(|scope| wanted.contains(scope))
    }

    /// Whether every scope of `self` is in `others`.
    pub(crate) fn is_subset_of(&self, others: &Self) -> bool {
        self.0.iter().all(|scope| others.0.contains(scope))
    }

    pub(crate) fn names(&self) -> &[&'static str] {
        &self.0
    }
}

/// The principal and the scopes of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenGrant {
    /// The email address of a service account or a person, or the identifier of a workload.
    pub(crate) principal: Arc<str>,
    pub(crate) scopes: Scopes,
}

/// The issued tokens.
#[derive(Default)]
pub(crate) struct AccessTokens(HashMap<String, IssuedToken>);

struct IssuedToken {
    grant: TokenGrant,
    expiry: Instant,
}

/// The reason why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    Missing,
    Expired,
    Unknown,
    /// The principal is disabled.
    Disabled,
}

impl TokenError {
    /// The name in `google.api.ErrorReason`.
    fn reason(self) -> &'static str {
        match self {
            Self::Missing => "CREDENTIALS_MISSING",
            Self::Expired => "ACCESS_TOKEN_EXPIRED",
            Self::Unknown => "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            Self::Disabled => "ACCOUNT_STATE_INVALID",
        }
    }
}

impl AccessTokens {
    /// Issues a token that is valid for `lifetime`.
    pub(crate) fn issue(
        &mut self,
        grant: TokenGrant,
        lifetime: Duration,
        now: Instant,
    ) -> io::Result<String> {
        self.0.retain(|_, issued| now.saturating_duration_since(issued.expiry) < EXPIRED_RETENTION);
        let token = format!("ya29.c.{}", random_text::<96>()?);
        // An expiry that the clock cannot represent is replaced by one year from now.
        let expiry = now.checked_add(lifetime).unwrap_or_else(|| now + Duration::from_secs(365 * 86_400));
        self.0.insert(token.clone(), IssuedToken { grant, expiry });
        Ok(token)
    }

    /// All stored tokens, including expired ones.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The principal of a token, valid or not.
    pub(crate) fn principal(&self, token: &str) -> Option<Arc<str>> {
        self.0.get(token).map(|issued| Arc::clone(&issued.grant.principal))
    }

    fn check(&self, token: Option<&str>, now: Instant) -> Result<TokenGrant, TokenError> {
        match self.0.get(token.ok_or(TokenError::Missing)?) {
            None => Err(TokenError::Unknown),
            Some(issued) if issued.expiry <= now => Err(TokenError::Expired),
            Some(issued) => Ok(issued.grant.clone()),
        }
    }

    /// Expires every token, or those of one principal.
    pub(crate) fn revoke(&mut self, principal: Option<&str>, now: Instant) {
        let matches = |issued: &&mut IssuedToken| principal.is_none_or(|one| *issued.grant.principal == *one);
        for issued in self.0.values_mut().filter(matches) {
            issued.expiry = now.min(issued.expiry);
        }
    }
}

/// The principals of the latest API calls, oldest first.
#[derive(Default)]
pub(crate) struct RecentCallers(VecDeque<Arc<str>>);

impl RecentCallers {
    pub(crate) fn record(&mut self, principal: Arc<str>) {
        if self.0.len() == MAX_CALLERS {
            self.0.pop_front();
        }
        self.0.push_back(principal);
    }

    pub(crate) fn latest(&self) -> Vec<String> {
        self.0.iter().map(|principal| principal.as_ref().to_owned()).collect()
    }
}

/// An API: its name in error responses, and the scopes that it accepts.
pub(crate) struct GoogleApi {
    pub(crate) name: &'static str,
    scopes: &'static [&'static str],
    /// The `WWW-Authenticate` header when the token has none of the scopes.
    pub(crate) insufficient_scope: &'static str,
}

pub(crate) const ANDROID_MANAGEMENT_API: GoogleApi = GoogleApi {
    name: "androidmanagement.googleapis.com",
    scopes: &[ANDROID_MANAGEMENT],
    insufficient_scope: r#"Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="https://www.googleapis.com/auth/androidmanagement""#,
};

pub(crate) const IAM_CREDENTIALS: GoogleApi = GoogleApi {
    name: "iamcredentials.googleapis.com",
    scopes: &[CLOUD_PLATFORM, IAM],
    insufficient_scope: r#"Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="https://www.googleapis.com/auth/cloud-platform https://www.googleapis.com/auth/iam""#,
};

/// The bearer token of a request.
pub(crate) fn bearer(head: &Parts) -> Option<&str> {
    let (scheme, token) = head.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Checks that `token` is valid and has a scope of `api`.
pub(crate) fn authorize(
    shared: &Shared,
    token: Option<&str>,
    api: &GoogleApi,
    method: &str,
    now: Instant,
) -> Result<(), ApiError> {
    let checked = lock(&shared.tokens).check(token, now);
    let enabled = checked.and_then(|grant| {
        let disabled = lock(&shared.accounts).is_disabled(&grant.principal);
        if disabled { Err(TokenError::Disabled) } else { Ok(grant) }
    });
    let grant = enabled.map_err(|error| ApiError::unauthenticated(error.reason(), api, method))?;
    let sufficient = grant.scopes.allow_any(api.scopes);
    if sufficient { Ok(()) } else { Err(ApiError::insufficient_scope(api, method)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(65);

    fn grant(principal: &str) -> TokenGrant {
        TokenGrant { principal: principal.into(), scopes: Scopes::of_machine() }
    }

    #[test]
    fn only_a_list_of_known_scopes_is_parsed() {
        let list = format!("openid {ANDROID_MANAGEMENT}");
        assert_eq!(Scopes::parse(&list).unwrap().names(), ["openid", ANDROID_MANAGEMENT]);
        for list in ["", " ", "androidmanagement", &format!("{ANDROID_MANAGEMENT}.readonly openid")] {
            assert_eq!(Scopes::parse(list), None, "{list}");
        }
    }

    #[test]
    fn cloud_platform_does_not_include_android_management() {
        let cloud = Scopes::of_machine();
        assert!(!cloud.allow_any(&[ANDROID_MANAGEMENT]));
        assert!(cloud.allow_any(&[IAM, CLOUD_PLATFORM]));
        assert!(cloud.is_subset_of(&Scopes::consented()));
        assert!(!Scopes::of([IAM]).unwrap().is_subset_of(&Scopes::consented()));
    }

    #[test]
    fn a_token_is_valid_for_its_lifetime() {
        let (mut tokens, now) = (AccessTokens::default(), Instant::now());
        let token = tokens.issue(grant("a"), LIFETIME, now).unwrap();
        let late = now + LIFETIME;
        assert_eq!(tokens.check(Some(&token), late - Duration::from_millis(1)), Ok(grant("a")));
        assert_eq!(tokens.check(Some(&token), late), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_that_was_never_issued_is_not_accepted() {
        let (mut tokens, now) = (AccessTokens::default(), Instant::now());
        let token = tokens.issue(grant("a"), LIFETIME, now).unwrap();
        assert_ne!(token, tokens.issue(grant("a"), LIFETIME, now).unwrap());
        assert_eq!(tokens.check(Some(&token[..9]), now), Err(TokenError::Unknown));
        assert_eq!(tokens.check(Some(""), now), Err(TokenError::Unknown));
        assert_eq!(tokens.check(None, now), Err(TokenError::Missing));
    }

    #[test]
    fn revoked_tokens_are_expired_and_others_are_not() {
        let (mut tokens, now) = (AccessTokens::default(), Instant::now());
        let old = tokens.issue(grant("a"), LIFETIME, now).unwrap();
        let other = tokens.issue(grant("b"), LIFETIME, now).unwrap();
        tokens.revoke(Some("a"), now);
        let new = tokens.issue(grant("a"), LIFETIME, now).unwrap();
        assert_eq!(tokens.check(Some(&old), now), Err(TokenError::Expired));
        assert_eq!(tokens.check(Some(&other), now), Ok(grant("b")));
        assert_eq!(tokens.check(Some(&new), now), Ok(grant("a")));
        tokens.revoke(None, now);
        assert_eq!(tokens.check(Some(&other), now), Err(TokenError::Expired));
        assert_eq!(tokens.principal(&old).as_deref(), Some("a"));
    }

    #[test]
    fn tokens_are_forgotten_an_hour_after_their_expiry() {
        let (mut tokens, now) = (AccessTokens::default(), Instant::now());
        for _ in 0..10 {
            tokens.issue(grant("a"), LIFETIME, now).unwrap();
        }
        tokens.issue(grant("a"), LIFETIME, now + LIFETIME + EXPIRED_RETENTION).unwrap();
        assert_eq!(tokens.0.len(), 1);
    }

    #[test]
    fn only_the_latest_callers_are_remembered() {
        let mut callers = RecentCallers::default();
        for i in 0..=MAX_CALLERS {
            callers.record(i.to_string().into());
        }
        let latest = callers.latest();
        assert_eq!((latest.len(), &*latest[0], &*latest[MAX_CALLERS - 1]), (MAX_CALLERS, "1", "1000"));
    }
}
