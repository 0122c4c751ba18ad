//! Parsers of the server's settings.

use std::{
    os::unix::net::SocketAddr as UnixAddress,
    path::{Path, PathBuf},
};

use nix::unistd::{Group, User};

use super::{Algorithm, JwksLocation, ListenAddress, Owner};
use crate::{
    caller::Identity,
    config::{Invalid, address::collide, address::tcp_address, directory_of, endpoint::endpoint},
    server::identity::forwarded::workload_identity,
};

const ADDRESS_FORMS: &str = "give host:port, for example 127.0.0.1:50051 or [::1]:50051, or unix:/path";

impl ListenAddress {
    /// Parses `host:port` or `unix:path`. A relative path starts at `directory`.
    pub(super) fn parse(text: &str, directory: &Path) -> Result<Self, Invalid> {
        match text.strip_prefix("unix:") {
            Some(path) => socket_path(path, directory).map(Self::Unix),
            None => tcp_address(text, ADDRESS_FORMS).map(Self::Tcp),
        }
    }

    /// Whether the system refuses to bind both addresses.
    pub(crate) fn collides_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(two)) => collide(*one, *two),
            (Self::Unix(one), Self::Unix(two)) => one == two,
            _ => false,
        }
    }
}

fn socket_path(path: &str, directory: &Path) -> Result<PathBuf, Invalid> {
    // gRPC clients write unix:///path.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        return Err(Invalid::new("the address has no path", ADDRESS_FORMS));
    }
    let path = directory.join(path);
    UnixAddress::from_pathname(&path).map_err(|error| {
        Invalid::new(format!("the path cannot be a socket: {error}"), "give a short path")
    })?;
    if !directory_of(&path).is_dir() {
        return Err(Invalid::new(
            "the directory of the socket does not exist",
            "create it first, or give a path in one that exists",
        ));
    }
    Ok(path)
}

/// Parses three octal digits, with or without a leading zero.
pub(super) fn mode(text: &str, _: &Path) -> Result<u32, Invalid> {
    let is_octal = matches!(text.len(), 3 | 4) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = if is_octal { u32::from_str_radix(text, 8).ok() } else { None };
    // Other mode bits have no defined meaning for a socket.
    mode.filter(|mode| *mode <= 0o777).ok_or_else(|| {
        Invalid::new(
            "this is not a file mode",
            r#"give octal digits in quotes, for example "0600" or "0660""#,
        )
    })
}

impl Owner {
    /// Parses `user`, `user:group` or `:group`, by name or by number.
    pub(super) fn parse(text: &str, _: &Path) -> Result<Self, Invalid> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let user = match user {
            "" if group.is_some() => None,
            user => Some(number("user", user, |name| {
                User::from_name(name).map(|user| user.map(|user| user.uid.as_raw()))
            })?),
        };
        let group = group.map(|group| {
            number("group", group, |name| {
                Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw()))
            })
        });
        Ok(Self { user, group: group.transpose()? })
    }
}

/// Parses `name` as a number, otherwise looks up its number in the system's databases.
fn number(
    kind: &str,
    name: &str,
    look_up: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, Invalid> {
    let hint = r#"give "user", "user:group" or ":group", each a name that this machine knows or a number"#;
    // chown(2) does not change the owner for the highest number.
    if let Ok(number) = name.parse()
        && number != u32::MAX
    {
        return Ok(number);
    }
    match look_up(name) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(Invalid::new(format!("this machine has no such {kind}"), hint)),
        Err(error) => Err(Invalid::new(format!("the {kind} cannot be looked up: {error}"), hint)),
    }
}

pub(super) fn mesh_proxy(text: &str, _: &Path) -> Result<Identity, Invalid> {
    workload_identity(text).ok_or_else(|| {
        Invalid::new(
            "this is not an identity of a certificate",
            "give a name in its certificate: spiffe://trust-domain/path or dns:host.example",
        )
    })
}

/// A caller is `jwt:ISS#SUB`, and the first `#` ends the issuer. OpenID Connect gives issuers no fragment
/// (Discovery
/// 1.0, section 3).
pub(super) fn issuer(text: &str, directory: &Path) -> Result<String, Invalid> {
    if text.contains('#') {
        let problem = "the issuer has a #, which ends the issuer in the name of a caller";
        return Err(Invalid::new(problem, "configure the issuer to use another name"));
    }
    audience(text, directory)
}

pub(super) fn audience(text: &str, _: &Path) -> Result<String, Invalid> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        let hint = "give the exact text of the issuer's tokens";
        return Err(Invalid::new("this is not the text of a claim", hint));
    }
    Ok(text.to_owned())
}

pub(super) fn algorithm(text: &str, _: &Path) -> Result<Algorithm, Invalid> {
    text.parse().map_err(|_| {
        let known = Algorithm::ALL.map(|known| known.to_string()).join(", ");
        Invalid::new("this is not an asymmetric signature algorithm", format!("give some of {known}"))
    })
}

impl JwksLocation {
    /// Parses a URL, which starts with a scheme (RFC 3986, section 3.1), or a path.
    pub(super) fn parse(text: &str, directory: &Path) -> Result<Self, Invalid> {
        let is_scheme = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c));
        if !text.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)) {
            return Ok(Self::File(directory.join(text)));
        }
        let danger = "over plain http an attacker on the network could replace the keys";
        let url = endpoint(text, danger, "give https://host/path, or a file")?;
        if url.fragment().is_some() {
            return Err(Invalid::new("the URL has a fragment", "end it before the #"));
        }
        Ok(Self::Url(url))
    }
}
