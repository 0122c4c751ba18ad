//! The settings of the upstream.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use crate::config::{FilePath, Invalid, Parsed, Time, endpoint::endpoint, settings};

const URL_FORM: &str = "https://host[:port][/prefix]";

settings! {
    /// `[upstream]`: the Android Management API.
    pub struct Upstream in "upstream" {
        /// The URL of the Android Management API.
        url: BaseUrl = "https://androidmanagement.googleapis.com", Parsed { form: URL_FORM, parse: BaseUrl::parse },
            env "COUNTERMAND_UPSTREAM_URL", flag "--upstream-url URL";
        /// CA certificates (PEM) to trust in addition to the public ones, for the API and the token endpoint.
        ca_certificates: Option<PathBuf>, FilePath, env "COUNTERMAND_UPSTREAM_CA", flag "--upstream-ca FILE";
        /// The URL of the IAM Service Account Credentials API, which impersonates service accounts.
        iam_credentials_url: BaseUrl = "https://iamcredentials.googleapis.com",
            Parsed { form: URL_FORM, parse: BaseUrl::parse }, env "COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL";
        /// The maximum time of one call, including its token and retries. A lost connection to the API is detected
        /// within a third of it, within 1 and 10 seconds. A request without a response for a tenth of it, within 0.5
        /// and 3 seconds, is sent again over a new connection if its connection is silent.
        timeout: Duration = "30s", Time, env "COUNTERMAND_UPSTREAM_TIMEOUT";
    }
}

/// The URL before an API's `/v1/…`: `https`, or `http` on a loopback host, without user, password, query and
/// fragment.
///
/// A path is allowed, for an API gateway that serves AMAPI below a prefix: with `https://gw/amapi`, a call goes to
/// `https://gw/amapi/v1/…`. The version is not part of the path.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// The URL. Its path ends in a slash only if the path is `/`.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The URL without a slash at its end, so that `/v1/…` can be appended.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    fn parse(text: &str, _: &Path) -> Result<Self, Invalid> {
        let invalid = |problem: &str, hint: &str| Err(Invalid::new(problem, hint));
        let danger = "plain http would send the token in clear over the network";
        let mut url = endpoint(text, danger, "give https://host[:port]")?;
        if url.query().is_some() || url.fragment().is_some() {
            return invalid("the URL has a query or a fragment", "end it after the host or the path");
        }
        if url.port() == Some(0) {
            return invalid("no server has the port 0", "give the server's port, or none");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        if path.contains("//") || path.contains('%') {
            return invalid(
                "the path has an empty or an escaped part",
                "give a prefix without such parts, or none",
            );
        }
        if path.rsplit('/').next() == Some("v1") {
            return invalid("the path ends in /v1, which each call adds", "leave /v1 out");
        }
        url.set_path(&path);
        Ok(Self(url))
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
    fn trailing_slashes_are_removed_from_a_base_url() {
        for (given, url, text) in [
            ("https://gw.example", "https://gw.example/", "https://gw.example"),
            ("https://gw.example//", "https://gw.example/", "https://gw.example"),
            ("https://gw.example/amapi//", "https://gw.example/amapi", "https://gw.example/amapi"),
        ] {
            let base = BaseUrl::parse(given, "".as_ref()).unwrap();
            assert_eq!((base.url().as_str(), base.as_str(), &*base.to_string()), (url, text, text));
        }
    }
}
