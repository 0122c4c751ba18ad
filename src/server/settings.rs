//! The settings of the server.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use url::Url;

use super::identity::jwks::Algorithm;
use crate::{
    caller::Identity,
    config::{
        ConfigErrors, FilePath, Invalid, List, Parsed, Section, Switch, Time, TimeOrOff, TimeOrZero,
        cannot_read, integer, settings,
    },
    file_watch,
};
use parse::{algorithm, audience, issuer, mesh_proxy, mode};

mod parse;

settings! {
    /// `[server]`: the addresses that serve gRPC.
    pub struct Server in "server" {
        /// Serve gRPC here: `host:port`, or `unix:/path`. Port 0 lets the system choose.
        listen: Vec<ListenAddress> = ["127.0.0.1:50051"],
            List { form: "host:port or unix:/path", or_one: false, parse: ListenAddress::parse },
            env "COUNTERMAND_LISTEN", flag "--listen ADDR";
        /// The time for calls in flight to finish after a signal to stop.
        drain_timeout: Duration = "25s", Time, env "COUNTERMAND_DRAIN_TIMEOUT";
        /// The time between a signal to stop and the drain. Health and readiness report NOT_SERVING at once, and calls
        /// are still served, so that load balancers can send later calls elsewhere.
        drain_delay: Duration = "0s", TimeOrZero, env "COUNTERMAND_DRAIN_DELAY";
        /// The permission bits of unix socket files. Connecting requires write permission (unix(7)). By default
        /// only the process's user may connect, because without a policy every client may do everything.
        unix_socket_mode: u32 = "0600", Parsed { form: "octal digits, as \"0660\"", parse: mode },
            env "COUNTERMAND_UNIX_SOCKET_MODE";
        /// The owner of unix socket files; by default the process's user and group.
        unix_socket_owner: Option<Owner>,
            Parsed { form: "\"user\", \"user:group\" or \":group\", by name or number", parse: Owner::parse },
            env "COUNTERMAND_UNIX_SOCKET_OWNER";
    }
}

/// An address that serves gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A unix socket. Its directory exists. The socket may not exist.
    Unix(PathBuf),
}

/// As in the configuration file: `127.0.0.1:50051` or `unix:/path`.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The owner of a file. `None` keeps the owner that the process gives it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user ID.
    pub user: Option<u32>,
    /// The group ID.
    pub group: Option<u32>,
}

settings! {
    /// `[server.tls]`: TLS on the TCP addresses, with PEM files. Without this section, TCP is plaintext. Unix
    /// sockets are always plaintext, because their data does not leave the machine.
    pub struct TlsSettings in "server.tls" {
        /// The server's certificate, then the intermediate certificates.
        certificate: Option<PathBuf>, FilePath, env "COUNTERMAND_SERVER_TLS_CERTIFICATE";
        /// The private key of the server's certificate: PKCS #8, PKCS #1 or SEC 1, not encrypted.
        private_key: Option<PathBuf>, FilePath, env "COUNTERMAND_SERVER_TLS_PRIVATE_KEY";
        /// The CA certificates of clients. With it, a client certificate is required.
        client_ca: Option<PathBuf>, FilePath, env "COUNTERMAND_SERVER_TLS_CLIENT_CA";
    }
}

/// The files of `[server.tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then the intermediate certificates.
    pub certificate: PathBuf,
    /// The private key of the server's certificate.
    pub private_key: PathBuf,
    /// The CA certificates that client certificates are verified against; `None` when no client certificate
    /// is required.
    pub client_ca: Option<PathBuf>,
}

settings! {
    /// The limits of `[server]` on connections and calls.
    pub struct Limits in "server" {
        /// Concurrent connections, over all listeners. A connection over the limit replaces one that has not sent the
        /// HTTP/2 preface for a second, or is closed. The limit of open files may allow fewer.
        max_connections: usize = 10_000, integer::<usize>(1..=1_000_000), env "COUNTERMAND_MAX_CONNECTIONS";
        /// Concurrent TLS handshakes, over all listeners.
        max_handshakes: usize = 256, integer::<usize>(1..=100_000), env "COUNTERMAND_MAX_HANDSHAKES";
        /// The time for a connection to complete TLS and send the HTTP/2 preface.
        handshake_timeout: Duration = "10s", Time, env "COUNTERMAND_HANDSHAKE_TIMEOUT";
        /// Concurrent calls, over all connections. A call over the limit is UNAVAILABLE.
        max_concurrent_calls: usize = 4096, integer::<usize>(1..=1_000_000), env "COUNTERMAND_MAX_CONCURRENT_CALLS";
        /// Concurrent calls of one caller that a certificate, a token or a mesh proxy identifies; by default a quarter
        /// of `max_concurrent_calls`. A call over the limit is UNAVAILABLE. The callers `anonymous` and `unix:UID` have
        /// no limit of their own, because many clients can share them.
        max_calls_per_caller: Option<usize>, integer::<usize>(1..=1_000_000), env "COUNTERMAND_MAX_CALLS_PER_CALLER";
        /// The maximum length of a request message, in bytes. A longer message is INVALID_ARGUMENT. A name has at
        /// most 804 characters; the rest is for the filter of a list.
        max_request_bytes: usize = 65_536, integer::<usize>(1024..=4 * 1024 * 1024), env "COUNTERMAND_MAX_REQUEST_BYTES";
        /// The maximum size of a header list, in bytes, as RFC 9113 counts it (section 6.5.2). The future of
        /// Google's Python client adds a header with each poll.
        max_header_list_bytes: u32 = 65_536, integer::<u32>(1024..=1024 * 1024),
            env "COUNTERMAND_MAX_HEADER_LIST_BYTES";
        /// Concurrent calls on one connection (SETTINGS_MAX_CONCURRENT_STREAMS). A client queues the calls over the
        /// limit.
        max_streams_per_connection: u32 = 1024, integer::<u32>(1..=1_000_000),
            env "COUNTERMAND_MAX_STREAMS_PER_CONNECTION";
        /// Calls on one connection that were reset before they were accepted. A connection over the limit is closed
        /// (GOAWAY, ENHANCE_YOUR_CALM).
        max_pending_resets: usize = 256, integer::<usize>(1..=1_000_000), env "COUNTERMAND_MAX_PENDING_RESETS";
        /// Calls on one connection that were reset soon after their start, in one `reset_window`. Also the HTTP/2
        /// violations that make this server reset a stream, over the lifetime of the connection. A connection over
        /// the limit is closed. The default equals that of `max_concurrent_calls`, because all callers behind one
        /// proxy may reach their deadlines at the same time.
        max_resets_per_window: usize = 4096, integer::<usize>(1..=1_000_000), env "COUNTERMAND_MAX_RESETS_PER_WINDOW";
        /// The window of `max_resets_per_window`.
        reset_window: Duration = "30s", Time, env "COUNTERMAND_RESET_WINDOW";
        /// The time without a frame from the client after which the server sends an HTTP/2 PING.
        keepalive_interval: Duration = "30s", Time, env "COUNTERMAND_KEEPALIVE_INTERVAL";
        /// The time for the client to reply to the PING.
        keepalive_timeout: Duration = "10s", Time, env "COUNTERMAND_KEEPALIVE_TIMEOUT";
        /// The age at which a connection accepts no more calls (GOAWAY), plus or minus a tenth. Client certificates
        /// are verified once per connection, and load balancers distribute connections, so connections must be
        /// renewed.
        max_connection_age: Option<Duration> = "30m", TimeOrOff, env "COUNTERMAND_MAX_CONNECTION_AGE";
        /// The time for the calls in flight to finish then. It should exceed the longest wait (`polling.max_wait`).
        max_connection_age_grace: Duration = "11m", Time, env "COUNTERMAND_MAX_CONNECTION_AGE_GRACE";
    }
}

settings! {
    /// `[callers]`: the accepted evidence of a caller's identity. Verified client certificates and the users of
    /// unix sockets are always accepted.
    pub struct Callers in "callers" {
        /// Whether the last element of a mesh proxy's `x-forwarded-client-cert` names the caller.
        forwarded_client_cert: bool = false, Switch, env "COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT";
        /// Whether a mesh proxy's `l5d-client-id` names the caller.
        linkerd_client_id: bool = false, Switch, env "COUNTERMAND_CALLERS_LINKERD_CLIENT_ID";
        /// The mesh proxies on other machines, each by the SPIFFE ID or a DNS name of its verified certificate. A
        /// proxy on this machine, on loopback or a unix socket, is trusted without an entry.
        mesh_proxies: Option<Vec<Identity>>,
            List { form: "spiffe://trust-domain/path or dns:host", or_one: false, parse: mesh_proxy },
            env "COUNTERMAND_CALLERS_MESH_PROXIES";
    }
}

settings! {
    /// `[callers.jwt]`: the issuer whose bearer tokens are accepted.
    pub struct JwtSettings in "callers.jwt" {
        /// The `iss` of its tokens.
        issuer: Option<String>, Parsed { form: "a text without #", parse: issuer },
            env "COUNTERMAND_CALLERS_JWT_ISSUER";
        /// The audiences of this service. The `aud` of a token must be, or contain, one of them.
        audience: Option<Vec<String>>, List { form: "texts, or one text", or_one: true, parse: audience },
            env "COUNTERMAND_CALLERS_JWT_AUDIENCE";
        /// The issuer's public keys (RFC 7517, section 5): a URL, or a file.
        jwks: Option<JwksLocation>, Parsed { form: "https://… or a path", parse: JwksLocation::parse },
            env "COUNTERMAND_CALLERS_JWT_JWKS";
        /// The accepted signature algorithms; by default RS256, RS384, RS512, PS256, PS384, PS512, ES256,
        /// ES384 and EdDSA.
        algorithms: Option<Vec<Algorithm>>, List { form: "algorithms", or_one: false, parse: algorithm },
            env "COUNTERMAND_CALLERS_JWT_ALGORITHMS";
        /// CA certificates (PEM) to trust in addition to the public ones, for the URL of the keys.
        jwks_ca_certificates: Option<PathBuf>, FilePath, env "COUNTERMAND_CALLERS_JWT_JWKS_CA_CERTIFICATES";
        /// A file with the bearer token for the URL of the keys. Kubernetes' API server requires one.
        jwks_token_file: Option<PathBuf>, FilePath, env "COUNTERMAND_CALLERS_JWT_JWKS_TOKEN_FILE";
    }
}

/// `[callers.jwt]`: an issuer whose bearer tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// The `iss` of its tokens; not empty.
    pub issuer: String,
    /// The audiences of this service. The `aud` of a token must be, or contain, one of them. At
    /// least one, none empty.
    pub audiences: Vec<String>,
    /// The accepted signature algorithms; at least one.
    pub algorithms: Vec<Algorithm>,
    /// The issuer's public keys.
    pub jwks: Jwks,
}

/// The source of an issuer's public keys (RFC 7517, section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// A file with at least one key for the accepted algorithms.
    File(PathBuf),
    /// An endpoint.
    Url {
        /// The URL: `https`, or `http` on a loopback host; no user, password or fragment.
        url: Url,
        /// A PEM file of at least one certificate, trusted in addition to the public roots.
        ca_certificates: Option<PathBuf>,
        /// A file with the bearer token for the endpoint. Kubernetes' API server requires one.
        token_file: Option<PathBuf>,
    },
}

/// The value of `callers.jwt.jwks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksLocation {
    /// A file.
    File(PathBuf),
    /// A URL: `https`, or `http` on a loopback host; no user, password or fragment.
    Url(Url),
}

impl Server {
    /// Adds an error for each address that collides with an earlier one.
    pub(crate) fn check(&self, section: &Section, errors: &mut ConfigErrors) {
        for (index, address) in self.listen.iter().enumerate() {
            let collides = self.listen[..index].iter().any(|earlier| earlier.collides_with(address));
            if let Some(origin) = section.items("listen").get(index).filter(|_| collides) {
                let problem = "the address collides with an earlier one of the list";
                errors.add(origin, problem, "give each address once");
            }
        }
    }
}

impl TlsSettings {
    /// The files; `None` without the section, or with an error in the section.
    pub(crate) fn files(self, section: &Section, errors: &mut ConfigErrors) -> Option<TlsFiles> {
        for key in ["certificate", "private_key"] {
            if section.lacks(key) {
                section.invalid(key, Invalid::new("this is missing", "name a PEM file"), errors);
            }
        }
        let Self { certificate, private_key, client_ca } = self;
        if let (Some(certificate), Some(private_key)) = (&certificate, &private_key) {
            let (certificate, private_key) = (certificate.clone(), private_key.clone());
            return Some(TlsFiles { certificate, private_key, client_ca });
        }
        for (key, file) in
            [("certificate", certificate), ("private_key", private_key), ("client_ca", client_ca)]
        {
            if let Some(Err(error)) = file.map(|file| file_watch::read(&file)) {
                section.invalid(key, cannot_read(&error), errors);
            }
        }
        None
    }
}

impl JwtSettings {
    /// The issuer; `None` with an error in the section.
    pub(crate) fn issuer(self, section: &Section, errors: &mut ConfigErrors) -> Option<Jwt> {
        let before = errors.len();
        for (key, hint) in [
            ("issuer", "give the iss of the tokens"),
            ("audience", "give the aud of the tokens for this service"),
            ("jwks", "give the https:// URL or the file of the issuer's keys"),
        ] {
            if section.lacks(key) {
                section.invalid(key, Invalid::new("this is missing", hint), errors);
            }
        }
        let Self { issuer, audience, algorithms, jwks, jwks_ca_certificates, jwks_token_file } = self;
        let algorithms = algorithms.unwrap_or_else(|| Algorithm::ALL.to_vec());
        let jwks = match jwks? {
            JwksLocation::File(file) => {
                for key in ["jwks_ca_certificates", "jwks_token_file"] {
                    if section.origin(key).is_some() {
                        let problem = "it requires a jwks that is a URL, and jwks is a file";
                        section.invalid(key, Invalid::new(problem, "leave it out"), errors);
                    }
                }
                Jwks::File(file)
            }
            JwksLocation::Url(url) => {
                Jwks::Url { url, ca_certificates: jwks_ca_certificates, token_file: jwks_token_file }
            }
        };
        let (issuer, audiences) = (issuer?, audience?);
        (errors.len() == before).then_some(Jwt { issuer, audiences, algorithms, jwks })
    }
}
