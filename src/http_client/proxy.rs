//! The forward proxy of `https` endpoints, from the environment.
//!
//! reqwest would read the variables itself. It ignores a proxy that it cannot parse, and a set `REQUEST_METHOD`
//! disables all its proxies: requests would then bypass the proxy without an error. Therefore this module reads and
//! checks the variables, and reqwest gets the result.

use std::{ffi::OsString, fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::{
    config::{Given, Invalid, Sources},
    loopback::is_loopback_host,
};

mod no_proxy;
mod tunnel;

use no_proxy::NoProxy;
pub(super) use tunnel::{Tunnel, TunnelRefused};

/// The names of one variable. The first that is not empty is used, as by curl ("Environment", curl(1)).
type BothCases = [&'static str; 2];

const HTTPS_PROXY: BothCases = ["https_proxy", "HTTPS_PROXY"];
const ALL_PROXY: BothCases = ["all_proxy", "ALL_PROXY"];
const NO_PROXY: BothCases = ["no_proxy", "NO_PROXY"];

/// The form of a valid proxy, for hints.
const FORM: &str =
    "give http://host:port or https://host:port, with user:password@ before the host if the proxy wants them";

/// The SOCKS schemes that other programs accept.
const SOCKS: [&str; 5] = ["socks", "socks4", "socks4a", "socks5", "socks5h"];

/// The proxy of the environment, and the hosts that are reached without it. The default is no proxy.
#[derive(Debug, Clone, Default)]
pub struct ProxySettings {
    proxy: Option<Arc<Proxy>>,
    no_proxy: NoProxy,
    ignored: Vec<IgnoredVariable>,
}

/// A variable that is set, and differs from the same variable in lower case, which is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IgnoredVariable {
    /// The variable that is ignored.
    pub ignored: &'static str,
    /// The variable that is used.
    pub used: &'static str,
}

/// A forward proxy. `Display` and `Debug` show its URL without the user and the password.
pub struct Proxy {
    /// Scheme, host and port only.
    url: Url,
    /// The `proxy-authorization` header.
    authorization: Option<HeaderValue>,
    variable: &'static str,
}

impl ProxySettings {
    /// Reads `https_proxy`, otherwise `all_proxy`, and `no_proxy`, each also in upper case. An error is added for a
    /// value that is not valid. `no_proxy` is only read if there is a proxy.
    ///
    /// `http_proxy` is not read, because `http` endpoints never use a proxy.
    pub(crate) fn read(sources: &mut Sources) -> Self {
        let mut settings = Self::default();
        let [https, all, no_proxy] = [HTTPS_PROXY, ALL_PROXY, NO_PROXY].map(|names| given(names, sources));
        let Some(GivenVariable { name, given, ignored }) = https.or(all) else { return settings };
        settings.ignored.extend(ignored);
        let proxy = text(&given.value).and_then(|text| Proxy::parse(text, name));
        settings.proxy = sources.errors.ok(&given.origin, proxy).map(Arc::new);
        if let Some(GivenVariable { name: _, given, ignored }) = no_proxy {
            settings.ignored.extend(ignored);
            let no_proxy = text(&given.value).and_then(NoProxy::parse);
            settings.no_proxy = sources.errors.ok(&given.origin, no_proxy).unwrap_or_default();
        }
        settings
    }

    /// The proxy, for the hosts that need it.
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_deref()
    }

    /// Whether a request to `url` is sent through the proxy. An `http` URL and a loopback host never are. An `http`
    /// request would cross the network in clear text, and a proxy has another loopback.
    #[must_use]
    pub fn applies_to(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        let is_excepted = || self.no_proxy.contains(&host, url.port_or_known_default());
        self.proxy.is_some() && url.scheme() == "https" && !is_loopback_host(&host) && !is_excepted()
    }

    /// The variables that are ignored, because the same variable in lower case differs.
    #[must_use]
    pub fn ignored(&self) -> &[IgnoredVariable] {
        &self.ignored
    }

    /// The tunnel to the host of `url`. `None` if the host is reached without a proxy.
    pub(super) fn tunnel_to(&self, url: &Url) -> Option<Tunnel> {
        let proxy = self.proxy.clone().filter(|_| self.applies_to(url))?;
        Some(Tunnel::new(proxy, url.host_str()?, url.port_or_known_default()?))
    }
}

/// A variable that is not empty.
struct GivenVariable {
    name: &'static str,
    given: Given<OsString>,
    ignored: Option<IgnoredVariable>,
}

/// The first variable of `names` that is not empty.
fn given(names: BothCases, sources: &mut Sources) -> Option<GivenVariable> {
    let [lower, upper] = names;
    let mut take = |name| sources.variables.take(name).filter(|given| !given.value.is_empty());
    match (take(lower), take(upper)) {
        (Some(given), other) => {
            let differs = other.is_some_and(|other| other.value != given.value);
            let ignored = differs.then_some(IgnoredVariable { ignored: upper, used: lower });
            Some(GivenVariable { name: lower, given, ignored })
        }
        (None, Some(given)) => Some(GivenVariable { name: upper, given, ignored: None }),
        (None, None) => None,
    }
}

fn text(value: &OsString) -> Result<&str, Invalid> {
    value.to_str().ok_or_else(|| Invalid::new("the value is not UTF-8", "give plain text"))
}

impl Proxy {
    /// Parses the value of `variable`. It is stricter than reqwest and curl: a value that they would read in another
    /// way than it was meant is an error.
    fn parse(text: &str, variable: &'static str) -> Result<Self, Invalid> {
        if text.starts_with(['"', '\'']) {
            return Err(Invalid::new("the value is in quotes", "remove the quotes"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let hint = "remove it, or percent-encode it if it belongs to the password, a blank as %20";
            return Err(Invalid::new("the value has a blank, a line end or another control character", hint));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = scheme.to_ascii_lowercase();
        if let Some(socks) = SOCKS.into_iter().find(|socks| *socks == scheme) {
            return Err(Invalid::new(format!("a {socks}:// proxy is not supported"), FORM));
        }
        if scheme != "http" && scheme != "https" {
            return Err(Invalid::new("the scheme is not http or https", FORM));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, host) = match rest.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, rest),
        };
        let authorization = login.filter(|login| !login.is_empty()).map(authorization).transpose()?;
        if host.contains(['/', '?', '#', '\\']) {
            return Err(Invalid::new("there is more than a host and a port", FORM));
        }
        let url = Url::parse(&format!("{scheme}://{host}")).ok().filter(is_usable);
        let url = url.ok_or_else(|| Invalid::new("the host or the port is not valid", FORM))?;
        Ok(Self { url, authorization, variable })
    }

    /// The variable that names the proxy.
    #[must_use]
    pub fn variable(&self) -> &'static str {
        self.variable
    }
}

/// Whether the port is not 0, and reqwest can parse the URL. reqwest ignores a proxy that it cannot parse.
fn is_usable(url: &Url) -> bool {
    url.port_or_known_default() != Some(0) && url.as_str().parse::<Uri>().is_ok()
}

/// The `proxy-authorization` header (RFC 7617) of `user:password` or `user`, both percent-encoded.
fn authorization(login: &str) -> Result<HeaderValue, Invalid> {
    if !is_userinfo(login) {
        return Err(Invalid::new(
            "the user or the password has a character that must be percent-encoded",
            "percent-encode each character that is no letter or digit, for example @ as %40, / as %2F, \\ as %5C, \
             # as %23 and % as %25",
        ));
    }
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let [user, password] = [user, password].map(|part| percent_decode_str(part).collect::<Vec<_>>());
    if user.contains(&b':') || [&user[..], &password].concat().iter().any(u8::is_ascii_control) {
        return Err(Invalid::new(
            "the user has a colon, or the user or the password has a control character",
            "use another user and password, because Basic authentication cannot send these",
        ));
    }
    let login = BASE64_STANDARD.encode([&user[..], &password].join(&b':'));
    let header = HeaderValue::try_from(format!("Basic {login}"));
    let mut header = header.map_err(|_| Invalid::new("the user or the password is not valid", FORM))?;
    header.set_sensitive(true);
    Ok(header)
}

/// Whether a text is the userinfo of a URL (RFC 3986, section 3.2.1).
fn is_userinfo(text: &str) -> bool {
    let mut parts = text.split('%');
    let is_allowed =
        |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&c));
    parts.next().is_none_or(is_allowed)
        && parts.all(|part| {
            part.split_at_checked(2).is_some_and(|(encoded, rest)| {
                encoded.bytes().all(|c| c.is_ascii_hexdigit()) && is_allowed(rest)
            })
        })
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests;
