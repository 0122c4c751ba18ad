//! SPIFFE IDs (the SPIFFE-ID standard, section 2).

use std::{fmt, str::FromStr};

/// The longest that the standard lets anybody rely on, in bytes.
const LONGEST: usize = 2048;

/// `spiffe://trust-domain/path`, of the characters that the standard allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: String,
    /// Where in `text` the path begins.
    path: usize,
}

/// A text is no SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SPIFFE ID, spiffe://trust-domain/path")]
pub struct InvalidSpiffeId;

impl SpiffeId {
    /// The trust domain, `corp.example`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.path]
    }

    /// The path with its leading slash, `/ns/mdm/sa/console`; empty for the trust domain itself.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path..]
    }

    /// The Kubernetes namespace and service account of a path `/ns/NAMESPACE/sa/ACCOUNT`, the form that
    /// Istio and SPIRE's Kubernetes registrar use.
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
        let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= LONGEST).ok_or(InvalidSpiffeId)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let of_domain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
        let of_segment = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(of_segment);
        let sound_domain = !domain.is_empty() && domain.bytes().all(of_domain);
        let sound_path = path.is_empty() || path.split('/').skip(1).all(segment);
        if !(sound_domain && sound_path) {
            return Err(InvalidSpiffeId);
        }
        Ok(Self { text: text.to_owned(), path: SCHEME.len() + domain.len() })
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
    fn the_parts_of_an_id_are_known() {
        let id: SpiffeId = "spiffe://corp.example/ns/mdm/sa/console".parse().expect("an id");
        assert_eq!((id.trust_domain(), id.path()), ("corp.example", "/ns/mdm/sa/console"));
        assert_eq!(id.kubernetes(), Some(("mdm", "console")));
        let id: SpiffeId = "spiffe://corp.example/vm/7".parse().expect("an id");
        assert_eq!(id.kubernetes(), None);
        let id: SpiffeId = "spiffe://corp.example".parse().expect("an id");
        assert_eq!((id.trust_domain(), id.path()), ("corp.example", ""));
    }

    #[test]
    fn what_the_standard_forbids_is_no_id() {
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
