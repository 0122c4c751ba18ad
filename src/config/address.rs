//! TCP addresses to listen on.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::errors::Invalid;

/// Parses `host:port` and resolves the host. Blocks during the
/// resolution. The first IPv4 address is preferred, because containers often
/// list an IPv6 address in `/etc/hosts` and have none on the interface.
pub(crate) fn tcp_address(text: &str, hint: &str) -> Result<SocketAddr, Invalid> {
    let invalid = |problem: &str| Invalid::new(problem, hint);
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.contains("://") || text.contains('/') {
        return Err(invalid("this is a URL or a path, not an address to listen on"));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid("the address has no port"))?;
    if host.is_empty() {
        return Err(invalid("the address has no host"));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.is_empty() {
        return Err(invalid("the address has a port that is not a number"));
    }
    let port: u16 = port.parse().map_err(|_| invalid("the address has a port above 65535"))?;
    if host.contains([':', '[', ']']) {
        return Err(invalid("the IPv6 address is malformed or not in brackets"));
    }
    #[expect(clippy::disallowed_methods, reason = "at start, before anything is served")]
    let found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| invalid(&format!("the host cannot be resolved ({error})")))?
        .collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| invalid("the host name resolves to no address"))
}

/// Whether two addresses conflict: they cannot both be bound. An unspecified address binds the port on all addresses of
/// its family, and `[::]` binds it on all IPv4 addresses too.
pub(crate) fn collide(one: SocketAddr, two: SocketAddr) -> bool {
    let includes = |one: IpAddr, two: IpAddr| one.is_unspecified() && (one.is_ipv6() || two.is_ipv4());
    let (a, b) = (one.ip(), two.ip());
    one.port() == two.port() && one.port() != 0 && (a == b || includes(a, b) || includes(b, a))
}
