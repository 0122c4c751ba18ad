//! Where a secret may be sent, and where one may be fetched from.

use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use url::Host;

use super::secret_json::{Malformed, Members};
use crate::loopback::is_loopback_host;

/// The URL of a member, to which secrets are sent: `https`, or `http` on a loopback host.
pub(super) fn of_member(members: &Members<'_>, name: &str) -> Result<Option<Url>, Malformed> {
    let wrong = || members.fault(name, "must be an https URL, or http on a loopback host");
    members.optional_text(name)?.map(|text| endpoint(text).ok_or_else(wrong)).transpose()
}

/// The URL of a member from which a subject token is fetched: it may lie on the link too, where the
/// metadata servers of clouds are, which speak no TLS.
pub(super) fn of_subject_token(members: &Members<'_>, name: &str) -> Result<Option<Url>, Malformed> {
    let wrong = || members.fault(name, "must be an https URL, or http on a loopback or link-local address");
    let check = |text| checked(text, |host| is_loopback_host(host) || is_link_local(host)).ok_or_else(wrong);
    members.optional_text(name)?.map(check).transpose()
}

/// A URL to which secrets may be sent.
pub(super) fn endpoint(text: &str) -> Option<Url> {
    checked(text, is_loopback_host)
}

fn checked(text: &str, plaintext_allowed: impl Fn(&Host<&str>) -> bool) -> Option<Url> {
    // yup-oauth2 builds its request from the text, as an `http::Uri`, and does not expect it to fail.
    text.parse::<http::Uri>().ok()?;
    let url = Url::parse(text).ok()?;
    let safe = match url.scheme() {
        "https" => true,
        "http" => plaintext_allowed(&url.host()?),
        _ => false,
    };
    (safe && !has_login(&url)).then_some(url)
}

/// Whether a URL holds a user or a password, which would be shown wherever the URL is.
pub(super) fn has_login(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn is_link_local(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(_) => false,
        Host::Ipv4(address) => Ipv4Addr::is_link_local(address),
        Host::Ipv6(address) => Ipv6Addr::is_unicast_link_local(address),
    }
}

#[cfg(test)]
mod tests {
    use super::{checked, endpoint, is_link_local};

    #[test]
    fn a_secret_crosses_no_network_in_clear() {
        for safe in [
            "https://sts.googleapis.com/v1/token",
            "http://127.0.0.1:1/",
            "http://[::1]/",
            "http://localhost/",
        ] {
            assert!(endpoint(safe).is_some(), "{safe}");
        }
        for unsafe_one in [
            "",
            "sts.googleapis.com",
            "ftp://127.0.0.1/",
            "http://example.com/",
            "http://169.254.169.254/",
            "http://localhost.example.com/",
            "https://user@example.com/",
            "https://user:word@example.com/",
        ] {
            assert!(endpoint(unsafe_one).is_none(), "{unsafe_one}");
        }
    }

    #[test]
    fn the_link_has_metadata_servers() {
        for local in ["http://169.254.169.254/metadata", "http://[fe80::1]/"] {
            assert!(checked(local, is_link_local).is_some(), "{local}");
        }
        for remote in ["http://10.0.0.1/", "http://metadata.google.internal/", "http://[fd00::1]/"] {
            assert!(checked(remote, is_link_local).is_none(), "{remote}");
        }
    }
}
