//! The URL of an endpoint. No fault shows the value, which may hold a password.

use url::Url;

use super::fault::Wrong;
use crate::{credentials::has_login, loopback::is_loopback_host};

/// Reads a URL; `remedy` says of which form.
pub(super) fn parse(text: &str, remedy: &str) -> Result<Url, Wrong> {
    Url::parse(text).map_err(|error| Wrong::new(format!("not a URL: {error}"), remedy))
}

/// Refuses a URL with a user or a password in it.
pub(super) fn refuse_login(url: &Url) -> Result<(), Wrong> {
    if has_login(url) {
        return Err(Wrong::new("the URL holds a user or a password", "leave it out"));
    }
    Ok(())
}

/// Refuses what is not `https`, nor `http` on a loopback host; `danger` is that of `http` on another, and
/// `remedy` says of which form the URL should be.
pub(super) fn refuse_plaintext(url: &Url, danger: &str, remedy: &str) -> Result<(), Wrong> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if url.host().is_some_and(|host| is_loopback_host(&host)) => Ok(()),
        "http" => Err(Wrong::new(danger, "give https://, or http:// with a loopback host")),
        _ => Err(Wrong::new("the scheme is not https", remedy)),
    }
}
