//! The address of a server, as the client commands take it.

use std::{fmt, str::FromStr};

use http::uri::Authority;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerAddress {
    /// `host:port`: TLS when a TLS flag is given.
    Either(Authority),
    /// `http://…`: plaintext.
    Plain(Authority),
    /// `https://…`: TLS.
    Tls(Authority),
    /// `unix:/path`: plaintext.
    Unix(String),
}

/// As on the command line.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Either(authority) => authority.fmt(f),
            Self::Plain(authority) => write!(f, "http://{authority}"),
            Self::Tls(authority) => write!(f, "https://{authority}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str = "give HOST:PORT, http://…, https://… or unix:/PATH";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(FORMS.to_owned()) } else { Ok(Self::Unix(path.to_owned())) };
        }
        let (make, rest): (fn(Authority) -> Self, _) = match text.split_once("://") {
            Some(("http", rest)) => (Self::Plain, rest),
            Some(("https", rest)) => (Self::Tls, rest),
            Some(_) => return Err(FORMS.to_owned()),
            None => (Self::Either, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: Authority = rest.parse().map_err(|error| format!("{error}; {FORMS}"))?;
        let has_scheme = text.contains("://");
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(FORMS.to_owned());
        }
        match authority.port_u16() {
            Some(1..) => Ok(make(authority)),
            None if has_scheme && authority.host() == authority.as_str() => Ok(make(authority)),
            _ => Err(format!("a port from 1 to 65535 is missing; {FORMS}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ServerAddress;

    #[test]
    fn an_address_has_four_forms() {
        for (text, shown) in [
            ("127.0.0.1:50051", "127.0.0.1:50051"),
            ("[::1]:50051", "[::1]:50051"),
            ("mdm.example:443", "mdm.example:443"),
            ("http://localhost:50051/", "http://localhost:50051"),
            ("https://mdm.example", "https://mdm.example"),
            ("unix:/run/c.sock", "unix:/run/c.sock"),
            ("unix:///run/c.sock", "unix:/run/c.sock"),
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "localhost",
            ":50051",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            "https://h:",
            "https://",
            "https://h:99999",
            "https://h/path",
            "https://user@h",
            "ftp://h:1",
            "unix:",
            "a b:1",
            "h:1\n",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text:?}");
        }
    }
}
