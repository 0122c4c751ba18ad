//! The names by which certificates and mesh proxies know a workload.

use crate::caller::Identity;

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

/// A DNS name, in any case; `None` for anything else, as a wildcard is.
pub(super) fn dns(name: &str) -> Option<Identity> {
    name.parse().ok().map(Identity::Dns)
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
    fn an_entry_of_a_list_says_what_it_is() {
        let id = identity("spiffe://corp.example/proxy").expect("a SPIFFE ID");
        assert_eq!(id.to_string(), "spiffe://corp.example/proxy");
        for text in ["corp.example", "dns:*.corp.example", "unix:0", "anonymous", "spiffe://", ""] {
            assert_eq!(identity(text), None, "{text}");
        }
    }
}
