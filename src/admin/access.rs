//! The requests that the operator's pages serve.
//!
//! A web page in an operator's browser can send requests to the admin port, also through a forwarded port. It must
//! neither read the pages nor change anything:
//!
//! - With DNS rebinding, the name of an attacker's host resolves to a loopback address, and the browser lets the page
//!   read the response. Its `Host` is that name. So a reader's `Host` must be an address or `localhost`.
//! - A form can send a POST to a loopback address. Browsers add `Origin` to it. So a change must have no `Origin`, and
//!   a `Host` on loopback.
//!
//! Other programs can send any `Host`. On a port beyond loopback, changes therefore come from this machine only.

use std::net::IpAddr;

use http::{
    Method, Request,
    header::{HOST, ORIGIN},
    uri::Authority,
};

/// The reason why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Forbidden {
    /// The host has a name other than `localhost`, or there is no host, or more than one.
    #[error("the Host must be localhost or an IP address")]
    HostName,
    /// The host is not on loopback.
    #[error("a change needs localhost, 127.0.0.1 or [::1] as Host")]
    NotLoopback,
    /// A browser sent the request.
    #[error("a change must have no Origin")]
    Origin,
    /// Another machine sent the request.
    #[error("a change must come from this machine")]
    Remote,
}

/// Whether the operator's pages serve this request. `is_local` is true for a client on loopback.
///
/// # Errors
///
/// See [`Forbidden`].
pub(super) fn check<B>(request: &Request<B>, is_local: bool) -> Result<(), Forbidden> {
    let is_loopback = is_loopback(request).ok_or(Forbidden::HostName)?;
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    match () {
        () if !is_loopback => Err(Forbidden::NotLoopback),
        () if request.headers().contains_key(ORIGIN) => Err(Forbidden::Origin),
        () if !is_local => Err(Forbidden::Remote),
        () => Ok(()),
    }
}

/// Whether the host is on loopback. `None` for a host that is neither an address nor `localhost`.
fn is_loopback<B>(request: &Request<B>) -> Option<bool> {
    let mut headers = request.headers().get_all(HOST).iter();
    let header = headers.next().filter(|_| headers.next().is_none())?;
    let header = address(&header.to_str().ok()?.parse().ok()?)?.is_loopback();
    // The target of a request can be a whole URL (RFC 9112, section 3.2.2).
    match request.uri().authority() {
        Some(target) => Some(address(target)?.is_loopback() && header),
        None => Some(header),
    }
}

/// The address of a host, with 127.0.0.1 for `localhost`. `None` for another name.
fn address(authority: &Authority) -> Option<IpAddr> {
    let host = authority.host();
    if authority.as_str().contains('@') {
        return None;
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse().map(|address: IpAddr| address.to_canonical()).ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{
        Forbidden::{self, *},
        check,
    };

    fn result(method: &str, target: &str, headers: &[(&str, &str)], is_local: bool) -> Result<(), Forbidden> {
        let request = Request::builder().method(method).uri(target);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        check(&request.body(()).unwrap(), is_local)
    }

    #[test]
    fn pages_are_read_from_an_address_or_localhost() {
        let hosts = [
            ("localhost", Ok(())),
            ("LOCALHOST:9464", Ok(())),
            ("127.0.0.1:9464", Ok(())),
            ("[::1]:9464", Ok(())),
            ("10.1.2.3:9464", Ok(())),
            ("[fd00::1]", Ok(())),
            ("attacker.example", Err(HostName)),
            ("localhost.attacker.example:9464", Err(HostName)),
            ("127.0.0.1.nip.io", Err(HostName)),
            ("localhost@attacker.example", Err(HostName)),
            ("attacker.example@localhost", Err(HostName)),
            ("localhost.", Err(HostName)),
            ("0x7f.1", Err(HostName)),
            ("", Err(HostName)),
        ];
        for (host, expected) in hosts {
            for method in ["GET", "HEAD"] {
                assert_eq!(result(method, "/", &[("host", host)], false), expected, "{host}");
            }
        }
        assert_eq!(result("GET", "/", &[], true), Err(HostName));
        assert_eq!(result("GET", "/", &[("host", "localhost"), ("host", "a.example")], true), Err(HostName));
        assert_eq!(result("GET", "http://a.example/", &[("host", "localhost")], true), Err(HostName));
        assert_eq!(result("GET", "http://localhost/", &[("host", "a.example")], true), Err(HostName));
        assert_eq!(result("GET", "http://localhost/", &[("host", "localhost")], true), Ok(()));
    }

    #[test]
    fn changes_come_from_programs_of_this_machine() {
        for method in ["POST", "PUT", "DELETE"] {
            for host in ["localhost:9464", "127.0.0.1", "127.0.0.2", "[::1]:9464", "[::ffff:127.0.0.1]"] {
                assert_eq!(result(method, "/", &[("host", host)], true), Ok(()), "{host}");
                assert_eq!(result(method, "/", &[("host", host)], false), Err(Remote), "{host}");
                for origin in ["null", "http://localhost:9464", "http://attacker.example"] {
                    assert_eq!(result(method, "/", &[("host", host), ("origin", origin)], true), Err(Origin));
                }
            }
            for host in ["10.1.2.3", "[fd00::1]:9464", "0.0.0.0:9464"] {
                assert_eq!(result(method, "/", &[("host", host)], true), Err(NotLoopback), "{host}");
            }
            assert_eq!(result(method, "/", &[("host", "a.example")], true), Err(HostName));
        }
        assert_eq!(result("POST", "http://10.1.2.3/", &[("host", "localhost")], true), Err(NotLoopback));
    }
}
