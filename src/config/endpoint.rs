//! The URLs of endpoints. No error text contains the URL, because the URL may hold a password.

use url::Url;

use super::errors::Invalid;
use crate::loopback::is_loopback_host;

/// Parses a URL: `https`, or `http` with a loopback host, without a user or a password. `http_problem` is the problem
/// of `http` with another host. `hint` describes valid URLs.
pub(crate) fn endpoint(text: &str, http_problem: &str, hint: &str) -> Result<Url, Invalid> {
    let url = Url::parse(text).map_err(|error| Invalid::new(format!("not a URL: {error}"), hint))?;
    if has_login(&url) {
        return Err(Invalid::new("the URL holds a user or a password", "leave it out"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if url.host().is_some_and(|host| is_loopback_host(&host)) => Ok(url),
        "http" => Err(Invalid::new(http_problem, "give https://, or http:// with a loopback host")),
        _ => Err(Invalid::new("the scheme is not https", hint)),
    }
}

/// Whether a URL holds a user or a password. Each log line with the URL would show them.
pub(crate) fn has_login(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}
