//! `[upstream]`: the Android Management API.

use std::{fmt, path::PathBuf, time::Duration};

use url::{Host, Url};

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    files,
    source::{Given, duration},
    table::Section,
};

/// The Android Management API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is.
    pub url: BaseUrl,
    /// A PEM file of at least one certificate, trusted beside the public roots.
    pub ca_certificates: Option<PathBuf>,
    /// The most time that one call may take, token and retries included; 1 ms to 1 h.
    pub timeout: Duration,
}

impl Upstream {
    pub(super) fn read(
        url: Option<String>,
        ca_certificates: Option<PathBuf>,
        environment: &mut Environment,
        file: &mut Section<'_>,
        faults: &mut Faults,
    ) -> Self {
        let url = Given::flag("--upstream-url", url)
            .or(environment.text("COUNTERMAND_UPSTREAM_URL", faults))
            .or(file.text("url", faults))
            .and_then(|given| given.parse(faults, BaseUrl::parse))
            .unwrap_or_default();

        let ca_certificates = Given::flag("--upstream-ca", ca_certificates)
            .or(environment.path("COUNTERMAND_UPSTREAM_CA"))
            .or(file.path("ca_certificates", faults))
            .and_then(|given| {
                given.parse(faults, files::certificates)?;
                Some(given.value)
            });

        let timeout = environment
            .text("COUNTERMAND_UPSTREAM_TIMEOUT", faults)
            .or(file.text("timeout", faults))
            .and_then(|given| given.parse(faults, duration))
            .unwrap_or(Duration::from_secs(30));

        Self { url, ca_certificates, timeout }
    }
}

/// The URL under which the API's `/v1/…` lies: `https`, or `http` on a loopback host; no user, password,
/// query or fragment.
///
/// A path is allowed, for an API gateway that offers AMAPI below a prefix: with `https://gw/amapi`, a call
/// goes to `https://gw/amapi/v1/…`. The version itself is not part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// The URL without a slash at its end, so that `/v1/…` can be appended as it is.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value is never part of the fault: it may hold a password.
    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |problem: &str, remedy: &str| Err(Wrong::new(problem, remedy));
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return wrong(&format!("not a URL: {error}"), "give https://host[:port]"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("the URL holds a user or a password", "leave it out");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return wrong("the URL holds a query or a fragment", "end it after the host or the path");
        }
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => {
                return wrong(
                    "plain http would send the token in clear over the network",
                    "give https://, or http:// with a loopback host",
                );
            }
            _ => return wrong("the scheme is not https", "give https://host[:port]"),
        }
        if url.port() == Some(0) {
            return wrong("no server has the port 0", "give the server's port, or none");
        }
        let path = url.path().trim_end_matches('/');
        if path.contains("//") || path.contains('%') {
            return wrong("the path has an empty or an escaped part", "give a plain prefix or none");
        }
        if path.rsplit('/').next() == Some("v1") {
            return wrong("the path ends in /v1, which each call adds by itself", "leave /v1 out");
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

/// Whether its host is this machine, by its address or as `localhost`.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Google's own.
impl Default for BaseUrl {
    fn default() -> Self {
        Self("https://androidmanagement.googleapis.com".to_owned())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
