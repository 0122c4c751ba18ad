//! The hosts that are reached without the proxy: the value of `no_proxy`.
//!
//! No standard describes the value. This module accepts what curl and Go accept, and `*.domain`.

use std::net::IpAddr;

use url::Host;

use crate::config::Invalid;

const FORM: &str = "give a host, a domain, *.domain, an IP address, a network such as 10.0.0.0/8, or *, each but a \
    network also with :port";

/// The entries of `no_proxy`.
#[derive(Debug, Clone, Default)]
pub(super) struct NoProxy(Vec<NoProxyEntry>);

#[derive(Debug, Clone)]
struct NoProxyEntry {
    hosts: Hosts,
    /// `None` for every port.
    port: Option<u16>,
}

#[derive(Debug, Clone)]
enum Hosts {
    All,
    /// The domain and its subdomains.
    Domain(String),
    /// The subdomains only.
    Subdomains(String),
    /// The addresses that have the first `prefix` bits of this address.
    Network(IpAddr, u32),
}

impl NoProxy {
    /// Parses entries that are separated by commas or blanks. The error has the number of the entry, from 1.
    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        let separators = |c: char| c == ',' || c.is_whitespace();
        let texts = text.split(separators).filter(|text| !text.is_empty());
        let entry = |(index, text)| {
            let problem = || format!("entry {} is not a host", index + 1);
            NoProxyEntry::parse(text).ok_or_else(|| Invalid::new(problem(), FORM))
        };
        texts.enumerate().map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a host is reached without the proxy. A name is not resolved.
    pub(super) fn contains(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        let is_port = |entry: &NoProxyEntry| entry.port.is_none() || entry.port == port;
        self.0.iter().any(|entry| is_port(entry) && entry.hosts.contains(host))
    }
}

impl NoProxyEntry {
    fn parse(text: &str) -> Option<Self> {
        if let Some(hosts) = Hosts::parse(text) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        // An IPv6 address with a port is in brackets (RFC 3986, section 3.2.2).
        if host.contains('/') || (host.contains(':') && !host.starts_with('[')) {
            return None;
        }
        Some(Self { hosts: Hosts::parse(host)?, port: Some(port) })
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if let Some((address, prefix)) = text.split_once('/') {
            let (address, prefix) = (address.parse().ok()?, prefix.parse().ok()?);
            return (prefix <= width(address)).then_some(Self::Network(address, prefix));
        }
        let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = unbracketed.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Some(Self::Network(address, width(address)));
        }
        if let Some(domain) = text.strip_prefix("*.") {
            return Some(Self::Subdomains(domain_name(domain)?));
        }
        Some(Self::Domain(domain_name(text.strip_prefix('.').unwrap_or(text))?))
    }

    fn contains(&self, host: &Host<&str>) -> bool {
        let address = match host {
            Host::Domain(name) => return self.contains_name(name.trim_end_matches('.')),
            Host::Ipv4(address) => IpAddr::from(*address),
            Host::Ipv6(address) => IpAddr::from(*address).to_canonical(),
        };
        match self {
            Self::All => true,
            Self::Network(network, prefix) => has_prefix(address, *network, *prefix),
            Self::Domain(_) | Self::Subdomains(_) => false,
        }
    }

    fn contains_name(&self, name: &str) -> bool {
        let is_subdomain_of =
            |domain: &str| name.strip_suffix(domain).is_some_and(|labels| labels.ends_with('.'));
        match self {
            Self::All => true,
            Self::Domain(domain) => name == domain || is_subdomain_of(domain),
            Self::Subdomains(domain) => is_subdomain_of(domain),
            Self::Network(..) => false,
        }
    }
}

/// A domain in the form of a URL's host: lower case, and Punycode.
fn domain_name(text: &str) -> Option<String> {
    match Host::parse(text.strip_suffix('.').unwrap_or(text)).ok()? {
        Host::Domain(name) if !name.starts_with('.') && name.bytes().all(is_of_domain) => Some(name),
        // The parser of URLs reads `10` as the address 0.0.0.10, and allows more characters than DNS.
        Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

fn is_of_domain(character: u8) -> bool {
    character.is_ascii_alphanumeric() || b"-_.".contains(&character)
}

/// The number of bits of an address.
fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn has_prefix(address: IpAddr, network: IpAddr, prefix: u32) -> bool {
    let differing = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (address.to_bits() ^ network.to_bits()).leading_zeros(),
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits() ^ network.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    differing >= prefix
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::NoProxy;

    fn contains(no_proxy: &str, url: &str) -> bool {
        let url = Url::parse(url).unwrap();
        NoProxy::parse(no_proxy).unwrap().contains(&url.host().unwrap(), url.port_or_known_default())
    }

    #[test]
    fn a_host_is_excepted_by_a_matching_entry() {
        for (no_proxy, excepted, proxied) in [
            ("example.com", "https://example.com", "https://notexample.com"),
            ("example.com", "https://a.b.example.com:8443", "https://example.com.evil"),
            (".example.com", "https://example.com", "https://example.org"),
            (".example.com", "https://a.example.com", "https://aexample.com"),
            ("*.example.com", "https://a.example.com", "https://example.com"),
            ("EXAMPLE.com.", "https://Example.Com.", "https://example"),
            ("bücher.example", "https://xn--bcher-kva.example", "https://bucher.example"),
            ("my_host", "https://my_host", "https://my-host"),
            ("example.com:443", "https://example.com", "https://example.com:8443"),
            ("example.com:8443", "https://a.example.com:8443", "https://example.com"),
            ("*:8443", "https://example.com:8443", "https://example.com"),
            ("10.1.2.3", "https://10.1.2.3", "https://10.1.2.30"),
            ("10.1.2.3:8443", "https://10.1.2.3:8443", "https://10.1.2.3"),
            ("10.1.0.0/16", "https://10.1.255.255", "https://10.2.0.0"),
            ("10.1.2.3/16", "https://10.1.0.0", "https://[::a01:203]"),
            ("10.1.2.3/32", "https://10.1.2.3", "https://10.1.2.2"),
            ("0.0.0.0/0", "https://10.1.2.3", "https://[fd00::1]"),
            ("fd00::/8", "https://[fdff::1]", "https://[fe00::1]"),
            ("fd00::1", "https://[FD00:0::1]:8443", "https://[fd00::2]"),
            ("[fd00::1]", "https://[fd00::1]", "https://[fd00::2]"),
            ("[fd00::1]:8443", "https://[fd00::1]:8443", "https://[fd00::1]"),
            ("10.1.2.3", "https://[::ffff:10.1.2.3]", "https://[::ffff:10.1.2.4]"),
            ("a.example b.example\tc.example", "https://c.example", "https://d.example"),
            (" a.example ,\n,b.example, ", "https://b.example", "https://c.example"),
        ] {
            assert!(contains(no_proxy, excepted), "{no_proxy}: {excepted}");
            assert!(!contains(no_proxy, proxied), "{no_proxy}: {proxied}");
        }
        for url in ["https://example.com", "https://10.1.2.3:8443", "https://[fd00::1]"] {
            assert!(contains("none.example,*", url), "{url}");
            assert!(!contains("", url), "{url}");
        }
    }

    #[test]
    fn an_entry_that_matches_nothing_is_an_error_with_its_number() {
        for entry in [
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0/8",
            "10.0.0.0/8:443",
            "10.0.0.256",
            "10.0.0.*",
            "10",
            "*example.com",
            "a.*.example",
            "*.",
            ".",
            "..example.com",
            "<local>",
            "https://example.com",
            "example.com:0",
            "example.com:https",
            "example.com:65536",
            "fd00::1]:443",
            "\"example.com\"",
            "[example.com]",
        ] {
            let error = NoProxy::parse(&format!("ok.example, {entry}")).expect_err(entry);
            assert_eq!(error.problem, "entry 2 is not a host", "{entry}");
        }
    }
}
