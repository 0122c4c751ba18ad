//! SPIFFE IDs (the SPIFFE-ID standard, section 2).

use std::{fmt, str::FromStr};

/// The maximum length that the standard requires implementations to support, in bytes.
const MAX_ID_BYTES: usize = 2048;

/// A SPIFFE ID, `spiffe://trust-domain/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: String,
    /// The offset of the path in `text`.
    path_start: usize,
}

/// A text that is not a SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SPIFFE ID, spiffe://trust-domain/path")]
pub struct InvalidSpiffeId;

impl SpiffeId {
    /// The trust domain, `corp.example`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.path_start]
    }

    /// The path with its leading slash, `/ns/mdm/sa/console`. Empty for the ID of a trust domain.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path_start..]
    }

    /// The Kubernetes namespace and service account of a path `/ns/NAMESPACE/sa/ACCOUNT`. Istio and SPIRE's Kubernetes
    /// registrar use this form.
    #[must_use]
    pub fn kubernetes(&self) -> Option<(&str, &str)> {
        match self.path().split('/').collect::<Vec<_>>()[..] {
            ["", "ns", namespace, "sa", account] => Some((namespace, account)),
            _ => None,
        }
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

const SCHEME: &str = "spiffe://";

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= MAX_ID_BYTES).ok_or(InvalidSpiffeId)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_domain_byte = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
        let is_segment_byte = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        let is_segment =
            |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_segment_byte);
        let has_valid_domain = !domain.is_empty() && domain.bytes().all(is_domain_byte);
        let has_valid_path = path.is_empty() || path.split('/').skip(1).all(is_segment);
        if !(has_valid_domain && has_valid_path) {
            return Err(InvalidSpiffeId);
        }
        Ok(Self { text: text.to_owned(), path_start: SCHEME.len() + domain.len() })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidSpiffeId, SpiffeId};

    #[test]
    fn an_id_is_split_into_its_parts() {
        let id: SpiffeId = "spiffe://corp.example/ns/mdm/sa/console".parse().expect("an id");
        assert_eq!((id.trust_domain(), id.path()), ("corp.example", "/ns/mdm/sa/console"));
        assert_eq!(id.kubernetes(), Some(("mdm", "console")));
        let id: SpiffeId = "spiffe://corp.example/vm/7".parse().expect("an id");
        assert_eq!(id.kubernetes(), None);
        let id: SpiffeId = "spiffe://corp.example".parse().expect("an id");
        assert_eq!((id.trust_domain(), id.path()), ("corp.example", ""));
    }

    #[test]
    fn an_id_that_the_standard_forbids_is_rejected() {
        for text in [
            "",
            "corp.example/ns/mdm",
            "SPIFFE://corp.example/x",
            "spiffe:///x",
            "spiffe://Corp.example/x",
            "spiffe://corp.example:443/x",
            "spiffe://user@corp.example/x",
            "spiffe://corp.example/",
            "spiffe://corp.example/a//b",
            "spiffe://corp.example/a/",
            "spiffe://corp.example/../b",
            "spiffe://corp.example/a%2Fb",
            "spiffe://corp.example/a?b",
            "spiffe://corp.example/a#b",
            "spiffe://corp.example/a b",
            "spiffe://corp.example/ä",
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(InvalidSpiffeId), "{text}");
        }
        let long = format!("spiffe://corp.example/{}", "a".repeat(2048));
        assert_eq!(long.parse::<SpiffeId>(), Err(InvalidSpiffeId));
    }
}
