//! Who may call an API: the bearer of a token that is valid, and has a scope of the API.

use std::collections::VecDeque;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use tokio::time::Instant;

use super::refusal::Refusal;
use super::scope::{ANDROID_MANAGEMENT, CLOUD_PLATFORM, IAM};
use super::state::{State, lock};
use super::token::BadToken;

/// How many callers are remembered.
const MEMORY: usize = 1000;

/// An API, as its refusals name it.
pub(super) struct Service {
    pub(super) name: &'static str,
    scopes: &'static [&'static str],
    /// The `WWW-Authenticate` header that says which scopes would do.
    pub(super) wanted: &'static str,
}

/// The Android Management API.
pub(super) const ANDROID_MANAGEMENT_API: Service = Service {
    name: "androidmanagement.googleapis.com",
    scopes: &[ANDROID_MANAGEMENT],
    wanted: r#"Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="https://www.googleapis.com/auth/androidmanagement""#,
};

/// The IAM Credentials API.
pub(super) const IAM_CREDENTIALS: Service = Service {
    name: "iamcredentials.googleapis.com",
    scopes: &[CLOUD_PLATFORM, IAM],
    wanted: r#"Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="https://www.googleapis.com/auth/cloud-platform https://www.googleapis.com/auth/iam""#,
};

/// The principals of the latest API calls, oldest first.
#[derive(Default)]
pub(super) struct Callers(VecDeque<Arc<str>>);

impl Callers {
    pub(super) fn note(&mut self, principal: Arc<str>) {
        if self.0.len() == MEMORY {
            self.0.pop_front();
        }
        self.0.push_back(principal);
    }

    pub(super) fn latest(&self) -> Vec<String> {
        self.0.iter().map(|principal| principal.as_ref().to_owned()).collect()
    }
}

/// The bearer token of a request.
pub(super) fn bearer(head: &Parts) -> Option<&str> {
    let (scheme, token) = head.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Lets the bearer of `token` call a method of `service`, or says why not.
pub(super) fn authorise(
    state: &State,
    token: Option<&str>,
    service: &Service,
    method: &str,
    now: Instant,
) -> Result<(), Refusal> {
    let accepted = lock(&state.tokens).accept(token, now);
    let enabled = accepted.and_then(|grant| {
        let disabled = lock(&state.accounts).is_disabled(&grant.principal);
        if disabled { Err(BadToken::Disabled) } else { Ok(grant) }
    });
    let grant = enabled.map_err(|bad| Refusal::unauthenticated(bad.reason(), service, method))?;
    let sufficient = grant.scopes.allow_any(service.scopes);
    if sufficient { Ok(()) } else { Err(Refusal::insufficient_scope(service, method)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_callers_are_remembered_and_no_more() {
        let mut callers = Callers::default();
        for i in 0..=MEMORY {
            callers.note(i.to_string().into());
        }
        let latest = callers.latest();
        assert_eq!((latest.len(), &*latest[0], &*latest[MEMORY - 1]), (MEMORY, "1", "1000"));
    }
}
