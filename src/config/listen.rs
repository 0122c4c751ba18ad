//! An address to listen on.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    os::unix::net::SocketAddr as UnixAddress,
    path::{Path, PathBuf},
};

use super::fault::Wrong;
use crate::{
    loopback::is_loopback,
    server::settings::{ListenAddress, directory_of},
};

const FORMS: &str = "give host:port, for example 127.0.0.1:50051 or [::1]:50051, or unix:/path";

impl ListenAddress {
    /// Reads `host:port` or `unix:path`; a relative path is so to `directory`.
    pub(super) fn parse(text: &str, directory: &Path) -> Result<Self, Wrong> {
        match text.strip_prefix("unix:") {
            Some(path) => socket_path(text, path, directory).map(Self::Unix),
            None => tcp(text).map(Self::Tcp),
        }
    }

    /// Whether the system would refuse the second of the two.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(two)) => tcp_collide(*one, *two),
            (Self::Unix(one), Self::Unix(two)) => one == two,
            _ => false,
        }
    }
}

/// An address that stands for all of its family takes the port from each of them, and `[::]` takes it
/// from IPv4 as well.
fn tcp_collide(one: SocketAddr, two: SocketAddr) -> bool {
    let takes_all_of = |one: IpAddr, two: IpAddr| one.is_unspecified() && (one.is_ipv6() || two.is_ipv4());
    let (a, b) = (one.ip(), two.ip());
    one.port() == two.port() && one.port() != 0 && (a == b || takes_all_of(a, b) || takes_all_of(b, a))
}

/// Resolves `host:port`. Of a name with several addresses the first of IPv4 is taken, else the first:
/// containers often have IPv6 in `/etc/hosts` and not on the interface.
pub(super) fn tcp(text: &str) -> Result<SocketAddr, Wrong> {
    let wrong = |what: &str| Wrong::new(format!("{text:?} {what}"), FORMS);
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.contains("://") || text.contains('/') {
        return Err(wrong("is not an address to listen on"));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
    if host.is_empty() {
        return Err(wrong("has no host"));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.is_empty() {
        return Err(wrong("has a port that is not a number"));
    }
    let port: u16 = port.parse().map_err(|_| wrong("has a port above 65535"))?;
    if host.contains([':', '[', ']']) {
        return Err(wrong("has an IPv6 address that is malformed or not in brackets"));
    }
    #[expect(clippy::disallowed_methods, reason = "at start, before anything is served")]
    let found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| wrong(&format!("names a host that cannot be resolved ({error})")))?
        .collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| wrong("names a host without an address"))
}

/// What stands between a listener and the network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    /// Whether it speaks TLS.
    pub(super) encrypted: bool,
    /// Whether there is a policy.
    pub(super) policed: bool,
    /// Whether `--allow-unauthenticated` was said.
    pub(super) may_be_open: bool,
}

impl Guard {
    /// An address that others on the network can reach takes both TLS and a policy, or to be asked for in so
    /// many words.
    pub(super) fn check(self, address: SocketAddr) -> Result<(), Wrong> {
        let (how, what) = match self {
            Self { may_be_open: true, .. } | Self { encrypted: true, policed: true, .. } => return Ok(()),
            _ if is_loopback(address) => return Ok(()),
            Self { encrypted: false, policed: false, .. } => {
                ("in plaintext and by anyone", "set up [server.tls] and a policy")
            }
            Self { encrypted: false, .. } => ("in plaintext", "set up [server.tls]"),
            Self { policed: false, .. } => ("and there is no policy on who may do what", "give a policy"),
        };
        Err(Wrong::new(
            format!("{address} can be reached from beyond this machine, {how}"),
            format!(
                "{what}, listen on 127.0.0.1 or a unix socket, or give --allow-unauthenticated where a mesh \
                 encrypts and authorises"
            ),
        ))
    }
}

/// Plaintext that others on the network can reach must be asked for in so many words.
pub(super) fn refuse_plaintext(address: SocketAddr, may_be_open: bool) -> Result<(), Wrong> {
    if may_be_open || is_loopback(address) {
        return Ok(());
    }
    Err(Wrong::new(
        format!("{address} can be reached from beyond this machine, in plaintext and by anyone"),
        "listen on 127.0.0.1, or give --allow-unauthenticated where a mesh encrypts and authorises",
    ))
}

fn socket_path(text: &str, path: &str, directory: &Path) -> Result<PathBuf, Wrong> {
    // unix:///path, as in the names that gRPC clients use.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        return Err(Wrong::new(format!("{text:?} has no path"), FORMS));
    }
    let path = directory.join(path);
    UnixAddress::from_pathname(&path)
        .map_err(|error| Wrong::new(format!("{path:?} cannot be a socket: {error}"), "give a short path"))?;
    let parent = directory_of(&path);
    if !parent.is_dir() {
        return Err(Wrong::new(
            format!("the directory {parent:?} does not exist"),
            "make it first, or give a path in one that exists",
        ));
    }
    Ok(path)
}
