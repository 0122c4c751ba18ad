//! What stays on this machine, where nobody on the network can read it or put in something else.

use std::net::SocketAddr;

use url::Host;

/// Whether an end of a connection is on loopback. A socket for both families has IPv4's as
/// `::ffff:127.0.0.1`.
#[must_use]
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Whether the host of a URL is this machine, by its address, in the form of either family, or as
/// `localhost`. No other name is: what the resolver says of it may be otherwise by the time that the URL is
/// used.
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
    fn an_address_of_loopback_is_known_in_the_form_of_either_family() {
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(is_loopback(address.parse().unwrap()), "{address}");
        }
        for address in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"] {
            assert!(!is_loopback(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_host_is_this_machine_by_an_address_of_loopback_or_as_localhost() {
        let is_here = |url: &str| is_loopback_host(&Url::parse(url).unwrap().host().unwrap());
        for url in [
            "http://127.0.0.1/",
            "http://127.9.9.9/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://LocalHost/",
        ] {
            assert!(is_here(url), "{url}");
        }
        for url in [
            "http://localhost.example/",
            "http://my.localhost/",
            "http://10.0.0.1/",
            "http://[::]/",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(!is_here(url), "{url}");
        }
    }
}
