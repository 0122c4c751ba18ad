//! The names by which certificates and mesh proxies know a workload.

use crate::caller::Identity;

/// The longest DNS name, and the longest of its labels, in bytes (RFC 1035, section 2.3.4).
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A SPIFFE ID, or else a DNS name: what stands for a workload in a list of them, in the form that the
/// policy language has (`spiffe://…`, `dns:…`). `None` for anything else.
#[must_use]
pub fn identity(text: &str) -> Option<Identity> {
    text.strip_prefix("dns:").map_or_else(|| spiffe(text), dns)
}

/// `spiffe://trust-domain/path`; `None` for any other URI.
pub(super) fn spiffe(uri: &str) -> Option<Identity> {
    uri.parse().ok().map(Identity::Spiffe)
}

/// A DNS name, in lower case, since case does not count there (RFC 4343). A wildcard names nobody.
pub(super) fn dns(name: &str) -> Option<Identity> {
    let of_label = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    let label = |label: &str| (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(of_label);
    let sound = name.len() <= LONGEST && name.split('.').all(label);
    sound.then(|| Identity::Dns(name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::{dns, identity};

    #[test]
    fn case_does_not_count() {
        let known = dns("Console.Corp.Example").expect("a name");
        assert_eq!(known.to_string(), "dns:console.corp.example");
        assert_eq!(identity("dns:CONSOLE.corp.example"), Some(known));
    }

    #[test]
    fn what_names_nobody_is_no_identity() {
        let long = "a".repeat(64);
        let longer = ["a"; 128].join(".");
        for name in
            ["", ".", "a.", ".a", "a..b", "*", "*.corp.example", "a b", "a/b", "ä", "a,b", &long, &longer]
        {
            assert_eq!(dns(name), None, "{name}");
        }
    }

    #[test]
    fn an_entry_of_a_list_says_what_it_is() {
        let id = identity("spiffe://corp.example/proxy").expect("a SPIFFE ID");
        assert_eq!(id.to_string(), "spiffe://corp.example/proxy");
        for text in ["corp.example", "dns:*.corp.example", "unix:0", "anonymous", "spiffe://", ""] {
            assert_eq!(identity(text), None, "{text}");
        }
    }
}
