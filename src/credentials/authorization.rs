//! A token as a request carries it.

use std::borrow::Cow;

use http::HeaderValue;

/// The value of an `authorization` header, marked so that no layer prints or indexes it.
#[derive(Clone)]
pub struct Authorization {
    pub(super) header: HeaderValue,
    pub(super) quota_project: Option<HeaderValue>,
    /// Counts the tokens of the credential: a newer one has a greater.
    pub(super) generation: u64,
}

impl Authorization {
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

    /// A text by somebody who was sent the header, without the token, should it be quoted there.
    #[must_use]
    pub fn left_out_of<'a>(&self, text: &'a str) -> Cow<'a, str> {
        // The token alone: it may be quoted without the scheme.
        let token = self.header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
        match token {
            Some(token) if text.contains(token) => Cow::Owned(text.replace(token, "[left out]")),
            _ => Cow::Borrowed(text),
        }
    }
}
