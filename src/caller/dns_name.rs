//! DNS names in certificates and in the headers of mesh proxies.

use std::{fmt, str::FromStr};

/// The maximum length of a name, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// The maximum length of a label, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// A DNS name in lower case, `console.corp.example`. A wildcard is not accepted, because it identifies no caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName(String);

/// A text that is not a DNS name, or that has a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a DNS name without a wildcard")]
pub struct InvalidDnsName;

impl DnsName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = InvalidDnsName;

    /// Case is ignored (RFC 4343).
    fn from_str(text: &str) -> Result<Self, InvalidDnsName> {
        let is_label_byte = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
        let is_label =
            |label: &str| (1..=MAX_LABEL_BYTES).contains(&label.len()) && label.bytes().all(is_label_byte);
        let is_valid = text.len() <= MAX_NAME_BYTES && text.split('.').all(is_label);
        if is_valid { Ok(Self(text.to_ascii_lowercase())) } else { Err(InvalidDnsName) }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{DnsName, InvalidDnsName};

    #[test]
    fn a_name_is_converted_to_lower_case() {
        let name: DnsName = "Console.Corp.Example".parse().expect("a name");
        assert_eq!(name.as_str(), "console.corp.example");
    }

    #[test]
    fn an_invalid_name_or_a_wildcard_is_rejected() {
        let long = "a".repeat(64);
        let longer = ["a"; 128].join(".");
        for name in
            ["", ".", "a.", ".a", "a..b", "*", "*.corp.example", "a b", "a/b", "ä", "a,b", &long, &longer]
        {
            assert_eq!(name.parse::<DnsName>(), Err(InvalidDnsName), "{name}");
        }
    }
}
