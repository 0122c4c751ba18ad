//! The URLs of endpoints. No error prints the value, which may hold a password.

use url::Url;

use super::errors::Invalid;
use crate::loopback::is_loopback_host;

/// Reads a URL: `https`, or `http` on a loopback host, without a user or a password. `danger` is the danger of `http` on
/// another host, and `hint` the form of the URL.
pub(crate) fn endpoint(text: &str, danger: &str, hint: &str) -> Result<Url, Invalid> {
    let url = Url::parse(text).map_err(|error| Invalid::new(format!("not a URL: {error}"), hint))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Invalid::new("the URL holds a user or a password", "leave it out"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if url.host().is_some_and(|host| is_loopback_host(&host)) => Ok(url),
        "http" => Err(Invalid::new(danger, "give https://, or http:// with a loopback host")),
        _ => Err(Invalid::new("the scheme is not https", hint)),
    }
}
