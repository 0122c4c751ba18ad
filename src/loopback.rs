//! Loopback addresses and hosts. No other machine can read or change traffic on loopback, so plaintext is allowed
//! there.

use std::net::SocketAddr;

use url::Host;

/// Whether an address is on loopback. A dual-stack socket reports IPv4 loopback as `::ffff:127.0.0.1`.
#[must_use]
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Whether the host of a URL is a loopback address or `localhost`. Every other name is not loopback, because it may
/// resolve to another address when the URL is used.
#[must_use]
pub fn is_loopback_host(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.to_canonical().is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::{is_loopback, is_loopback_host};

    #[test]
    fn loopback_addresses_of_both_families_are_recognized() {
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(is_loopback(address.parse().unwrap()), "{address}");
        }
        for address in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"] {
            assert!(!is_loopback(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn loopback_addresses_and_localhost_are_loopback_hosts() {
        let is_loopback_url = |url: &str| is_loopback_host(&Url::parse(url).unwrap().host().unwrap());
        for url in [
            "http://127.0.0.1/",
            "http://127.9.9.9/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://LocalHost/",
        ] {
            assert!(is_loopback_url(url), "{url}");
        }
        for url in [
            "http://localhost.example/",
            "http://my.localhost/",
            "http://10.0.0.1/",
            "http://[::]/",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(!is_loopback_url(url), "{url}");
        }
    }
}
