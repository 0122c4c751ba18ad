//! `[upstream]`: the Android Management API.

use std::{fmt, path::PathBuf, time::Duration};

use url::Url;

use super::{
    endpoint,
    environment::Environment,
    fault::{Faults, Wrong},
    files,
    source::Given,
    sources::Sources,
    table::Section,
};
use crate::credentials::IAM_CREDENTIALS;

/// The Android Management API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is.
    pub url: BaseUrl,
    /// A PEM file of at least one certificate, trusted beside the public roots.
    pub ca_certificates: Option<PathBuf>,
    /// Where service accounts are impersonated (IAM Service Account Credentials API).
    pub iam_credentials_url: BaseUrl,
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

        let mut from = Sources { environment, file, faults };
        let iam_credentials_url = from.read(
            "COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL",
            "iam_credentials_url",
            BaseUrl::parse,
            BaseUrl::of_iam_credentials(),
        );
        let timeout = from.time("COUNTERMAND_UPSTREAM_TIMEOUT", "timeout", Duration::from_secs(30));

        Self { url, ca_certificates, iam_credentials_url, timeout }
    }
}

/// The URL under which an API's `/v1/…` lies: `https`, or `http` on a loopback host; no user, password,
/// query or fragment.
///
/// A path is allowed, for an API gateway that offers AMAPI below a prefix: with `https://gw/amapi`, a call
/// goes to `https://gw/amapi/v1/…`. The version itself is not part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Google's own of IAM Credentials.
    #[must_use]
    pub fn of_iam_credentials() -> Self {
        Self::constant(IAM_CREDENTIALS)
    }

    fn constant(text: &'static str) -> Self {
        Self(Url::parse(text).expect("a constant URL"))
    }

    /// The URL. Its path has no slash at its end, unless it is nothing but that.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The URL without a slash at its end, so that `/v1/…` can be appended as it is.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |problem: &str, remedy: &str| Err(Wrong::new(problem, remedy));
        let remedy = "give https://host[:port]";
        let mut url = endpoint::parse(text, remedy)?;
        endpoint::refuse_login(&url)?;
        if url.query().is_some() || url.fragment().is_some() {
            return wrong("the URL holds a query or a fragment", "end it after the host or the path");
        }
        let danger = "plain http would send the token in clear over the network";
        endpoint::refuse_plaintext(&url, danger, remedy)?;
        if url.port() == Some(0) {
            return wrong("no server has the port 0", "give the server's port, or none");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        if path.contains("//") || path.contains('%') {
            return wrong("the path has an empty or an escaped part", "give a plain prefix or none");
        }
        if path.rsplit('/').next() == Some("v1") {
            return wrong("the path ends in /v1, which each call adds by itself", "leave /v1 out");
        }
        url.set_path(&path);
        Ok(Self(url))
    }
}

/// Google's own of the Android Management API.
impl Default for BaseUrl {
    fn default() -> Self {
        Self::constant("https://androidmanagement.googleapis.com")
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::BaseUrl;

    #[test]
    fn slashes_at_the_end_are_no_part_of_a_base_url() {
        for (given, url, text) in [
            ("https://gw.example", "https://gw.example/", "https://gw.example"),
            ("https://gw.example//", "https://gw.example/", "https://gw.example"),
            ("https://gw.example/amapi//", "https://gw.example/amapi", "https://gw.example/amapi"),
        ] {
            let base = BaseUrl::parse(given).unwrap();
            assert_eq!((base.url().as_str(), base.as_str(), &*base.to_string()), (url, text, text));
        }
    }
}
