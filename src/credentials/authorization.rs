//! A token as a request carries it.

use std::sync::{Arc, OnceLock};

use http::HeaderValue;

use super::Redactor;

/// The value of an `authorization` header, marked so that no layer prints or indexes it.
#[derive(Clone)]
pub struct Authorization {
    header: HeaderValue,
    quota_project: Option<HeaderValue>,
    /// Counts the tokens of the credential: a newer one has a greater.
    pub(super) generation: u64,
    /// Of the token: made once, when an answer first has to be looked through.
    redactor: Arc<OnceLock<Redactor>>,
}

impl Authorization {
    pub(super) fn new(header: HeaderValue, quota_project: Option<HeaderValue>, generation: u64) -> Self {
        Self { header, quota_project, generation, redactor: Arc::default() }
    }

    /// The header's value, `Bearer …`, which prints as `Sensitive`.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The value of `x-goog-user-project`, for a credential whose calls are counted against the quota of a
    /// project other than its own: a person's login has none.
    #[must_use]
    pub fn quota_project(&self) -> Option<&HeaderValue> {
        self.quota_project.as_ref()
    }

    /// Leaves the token out of what somebody says who was sent it.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        self.redactor.get_or_init(|| {
            // The token alone: it may be quoted without the scheme.
            Redactor::of(self.header.to_str().ok().and_then(|header| header.strip_prefix("Bearer ")))
        })
    }
}
