//! DNS names, as certificates and mesh proxies give them.

use std::{fmt, str::FromStr};

/// The longest name, and the longest of its labels, in bytes (RFC 1035, section 2.3.4).
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A DNS name in lower case, `console.corp.example`. A wildcard is none: it names nobody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName(String);

/// A text is no DNS name, or one of a wildcard.
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

    /// In any case, which does not count in such a name (RFC 4343).
    fn from_str(text: &str) -> Result<Self, InvalidDnsName> {
        let of_label = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
        let label = |label: &str| (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(of_label);
        let sound = text.len() <= LONGEST && text.split('.').all(label);
        if sound { Ok(Self(text.to_ascii_lowercase())) } else { Err(InvalidDnsName) }
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
    fn case_does_not_count() {
        let name: DnsName = "Console.Corp.Example".parse().expect("a name");
        assert_eq!(name.as_str(), "console.corp.example");
    }

    #[test]
    fn what_names_nobody_is_no_name() {
        let long = "a".repeat(64);
        let longer = ["a"; 128].join(".");
        for name in
            ["", ".", "a.", ".a", "a..b", "*", "*.corp.example", "a b", "a/b", "ä", "a,b", &long, &longer]
        {
            assert_eq!(name.parse::<DnsName>(), Err(InvalidDnsName), "{name}");
        }
    }
}
