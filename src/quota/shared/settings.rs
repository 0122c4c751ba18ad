//! The settings of the store that shares the budgets over replicas.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use url::{Host, Url};

use super::login::LoadedLogin;
use crate::{
    config::{CA_CERTIFICATES, ConfigErrors, FilePath, Invalid, Parsed, Section, integer, settings},
    http_client::LoadedAuthorities,
    loopback::is_loopback_host,
};

/// The key of the section.
pub(crate) const SECTION: &str = "quota_shared";

const URL_FORM: &str = "rediss://host[:port][/database], redis:// with a loopback host, or unix:///path";

const URL_HINT: &str =
    "give rediss://host:port, redis:// with a loopback host, or unix:///path, without a user or a password";

/// The port of a server, and of a sentinel.
const DEFAULT_PORTS: [u16; 2] = [6379, 26379];

settings! {
    /// `[quota_shared]`: the Redis or Valkey server that shares the budgets over replicas. Without this section, each
    /// process has the whole budgets for itself.
    pub struct QuotaSharedSettings in "quota_shared" {
        /// The server. `rediss` is TLS. `redis` is plaintext, so the host must be on loopback. With `sentinel_master`,
        /// the sentinels, separated by commas: `rediss://host1:26379,host2:26379`. A user and a password have their own
        /// settings.
        url: Option<StoreUrl>, Parsed { form: URL_FORM, parse: StoreUrl::parse };
        /// The user (ACL) of the server; by default the server's default user.
        username: Option<String>, Parsed { form: "a name", parse: name };
        /// The file with the password, which may end in a newline. Both passwords, the newest and the one before, are
        /// tried, so the file and the server may change in either order.
        password_file: Option<PathBuf>, FilePath;
        /// CA certificates (PEM) to trust in addition to the public ones, for the server and the sentinels.
        ca_certificates: Option<PathBuf>, FilePath;
        /// The name of the master whose address the sentinels report.
        sentinel_master: Option<String>, Parsed { form: "a name", parse: name };
        /// The number of replicas. While the server is away, a replica that has not reached it uses this part of a
        /// budget. Other replicas use their part by the last known number.
        replicas: Option<u32>, integer::<u32>(1..=10_000);
    }
}

/// The address of a store, without a user and a password. Prints as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// Servers on the network.
    Network {
        /// The hosts, at least one. The ports that are absent are the default ones.
        hosts: Vec<(Host, Option<u16>)>,
        /// Whether connections use TLS.
        has_tls: bool,
        /// The number of the database.
        database: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

/// The valid settings of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The server, or the sentinels.
    pub url: StoreUrl,
    /// The user, if it is not the default one.
    pub username: Option<String>,
    /// The file with the password, if there is one.
    pub password_file: Option<PathBuf>,
    /// The file of CA certificates, if there is one.
    pub ca_certificates: Option<PathBuf>,
    /// The name of the master, if `url` names sentinels.
    pub sentinel_master: Option<String>,
    /// The number of replicas.
    pub replicas: u32,
}

/// The loaded files of a store.
pub struct LoadedStore {
    pub(super) login: LoadedLogin,
    pub(super) authorities: LoadedAuthorities,
}

impl QuotaSharedSettings {
    /// The settings of the store. `None`, with errors, if they are not complete.
    pub(crate) fn check(&self, section: &Section, errors: &mut ConfigErrors) -> Option<StoreConfig> {
        let Self { url, username, password_file, ca_certificates, sentinel_master, replicas } = self.clone();
        let before = errors.len();
        let mut invalid =
            |key, problem: &str, hint: &str| section.invalid(key, Invalid::new(problem, hint), errors);
        if section.lacks("url") {
            invalid("url", "this is missing, so no budget would be shared", URL_HINT);
        }
        if section.lacks("replicas") {
            invalid(
                "replicas",
                "this is missing",
                "give the number of replicas, for the time without the server",
            );
        }
        if username.is_some() && section.lacks("password_file") {
            invalid("username", "a user requires a password", "give password_file");
        }
        match &url {
            Some(StoreUrl::Network { has_tls: true, .. }) | None => {}
            Some(_) if ca_certificates.is_some() => {
                invalid(
                    "ca_certificates",
                    "the URL is not of a connection with TLS",
                    "give rediss://, or leave this out",
                );
            }
            Some(_) => {}
        }
        match &url {
            Some(StoreUrl::Unix(_)) if sentinel_master.is_some() => {
                invalid("sentinel_master", "a unix socket is not a sentinel", "give rediss://host:26379");
            }
            Some(StoreUrl::Network { hosts, .. }) if hosts.len() > 1 && section.lacks("sentinel_master") => {
                invalid("url", "only sentinels may be several", "give one host, or sentinel_master");
            }
            _ => {}
        }
        if errors.len() != before {
            return None;
        }
        Some(StoreConfig {
            url: url?,
            username,
            password_file,
            ca_certificates,
            sentinel_master,
            replicas: replicas?,
        })
    }

    /// Loads the files. Adds an error for each that cannot be used. Blocks.
    pub(crate) fn load(&self, section: &Section, errors: &mut ConfigErrors) -> Option<LoadedStore> {
        let mut usable = |key, hint: &str, problem: String| {
            section.invalid(key, Invalid::new(problem, hint), errors);
        };
        let authorities = LoadedAuthorities::load(self.ca_certificates.clone())
            .map_err(|error| usable("ca_certificates", CA_CERTIFICATES, error.to_string()));
        let login = LoadedLogin::load(self.username.clone(), self.password_file.clone()).map_err(|problem| {
            usable("password_file", "name a file that this user may read, with a password", problem)
        });
        Some(LoadedStore { login: login.ok()?, authorities: authorities.ok()? })
    }
}

impl StoreUrl {
    fn parse(text: &str, _: &Path) -> Result<Self, Invalid> {
        let invalid = |problem: &str| Err(Invalid::new(problem, URL_HINT));
        let Some((scheme, rest)) = text.split_once("://") else { return invalid("this is not a URL") };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Invalid::new(
                "the URL holds a user or a password",
                "leave it out, and give username and password_file",
            ));
        }
        if rest.contains(['?', '#']) {
            return invalid("the URL has a query or a fragment");
        }
        let has_tls = match scheme {
            "rediss" => true,
            "redis" => false,
            "unix" | "redis+unix" if !authority.is_empty() => {
                return invalid("the path of the socket is not absolute");
            }
            "unix" | "redis+unix" if path.len() < 2 => return invalid("the URL has no path of a socket"),
            "unix" | "redis+unix" => return Ok(Self::Unix(PathBuf::from(path))),
            _ => return invalid("the scheme is not rediss, redis or unix"),
        };
        let Some(hosts) = authority.split(',').map(host).collect::<Option<Vec<_>>>() else {
            return invalid("the URL has no valid host and port");
        };
        let is_local = |(host, _): &(Host, Option<u16>)| is_loopback_host(&borrowed(host));
        if !has_tls && !hosts.iter().all(is_local) {
            return Err(Invalid::new(
                "redis:// would send the password in clear over the network",
                "give rediss://, or redis:// with a loopback host",
            ));
        }
        let database = match path.trim_start_matches('/') {
            "" => 0,
            number => match number.parse() {
                Ok(number) => number,
                Err(_) => return invalid("the path is not the number of a database"),
            },
        };
        Ok(Self::Network { hosts, has_tls, database })
    }
}

/// Without the reason for the port: `host[:port]`.
fn host(text: &str) -> Option<(Host, Option<u16>)> {
    let url = Url::parse(&format!("redis://{text}")).ok()?;
    let host = Host::parse(url.host_str().filter(|host| !host.is_empty())?).ok()?;
    (url.port() != Some(0)).then_some((host, url.port()))
}

pub(super) fn borrowed(host: &Host) -> Host<&str> {
    match host {
        Host::Domain(name) => Host::Domain(name),
        Host::Ipv4(address) => Host::Ipv4(*address),
        Host::Ipv6(address) => Host::Ipv6(*address),
    }
}

/// The port of a host of a URL, by default that of a server or of a sentinel.
pub(super) fn port(given: Option<u16>, is_sentinel: bool) -> u16 {
    given.unwrap_or(DEFAULT_PORTS[usize::from(is_sentinel)])
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hosts, has_tls, database) = match self {
            Self::Unix(path) => return write!(f, "unix://{}", path.display()),
            Self::Network { hosts, has_tls, database } => (hosts, has_tls, database),
        };
        f.write_str(if *has_tls { "rediss://" } else { "redis://" })?;
        for (index, (host, port)) in hosts.iter().enumerate() {
            write!(f, "{}{host}", if index > 0 { "," } else { "" })?;
            if let Some(port) = port {
                write!(f, ":{port}")?;
            }
        }
        if *database > 0 { write!(f, "/{database}") } else { Ok(()) }
    }
}

fn name(text: &str, _: &Path) -> Result<String, Invalid> {
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Invalid::new("this is empty, or has a space", "give a name"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::StoreUrl;

    fn parse(text: &str) -> Result<String, String> {
        StoreUrl::parse(text, "".as_ref()).map(|url| url.to_string()).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn a_url_prints_as_it_was_given() {
        for url in [
            "rediss://valkey.mdm",
            "rediss://valkey.mdm:6380/3",
            "rediss://10.0.0.1:6379",
            "rediss://[fd00::1]:6379",
            "redis://localhost:6379",
            "redis://127.0.0.1",
            "rediss://s1:26379,s2:26379,s3/1",
            "unix:///run/valkey.sock",
        ] {
            assert_eq!(parse(url).as_deref(), Ok(url));
        }
        assert_eq!(parse("redis+unix:///run/a@b.sock").as_deref(), Ok("unix:///run/a@b.sock"));
        assert_eq!(parse("rediss://valkey.mdm/0").as_deref(), Ok("rediss://valkey.mdm"));
    }

    #[test]
    fn a_login_in_a_url_is_an_error_that_shows_neither_part() {
        for url in [
            "rediss://me:hunter2@valkey",
            "rediss://:hunter2@valkey",
            "redis://me@localhost",
            "unix://me:hunter2@/s",
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.starts_with("the URL holds a user or a password"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("me:"), "{error}");
        }
    }

    #[test]
    fn an_invalid_url_is_an_error() {
        for (url, problem) in [
            ("valkey:6379", "not a URL"),
            ("http://valkey", "scheme"),
            ("redis://valkey:6379", "in clear"),
            ("redis://localhost,valkey", "in clear"),
            ("rediss://", "host"),
            ("rediss://valkey:0", "host"),
            ("rediss://valkey:99999", "host"),
            ("rediss://valkey,", "host"),
            ("rediss://valkey/a", "database"),
            ("rediss://valkey?db=1", "query"),
            ("rediss://valkey/1#insecure", "fragment"),
            ("unix://run/valkey.sock", "absolute"),
            ("unix:///", "path"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.split(';').next().unwrap_or_default().contains(problem), "{url}: {error}");
        }
    }
}
