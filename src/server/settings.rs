//! The settings of the server, as checked values. `config` reads and checks them.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::identity::jwks::Algorithm;
use crate::caller::Identity;

/// `[server]`: the gRPC server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The addresses to listen on: at least one, and no two that collide.
    pub listen: Vec<ListenAddress>,
    /// TLS on the TCP addresses; `None` for plaintext. Unix sockets are always plaintext, because only the
    /// kernel is between their ends.
    pub tls: Option<TlsFiles>,
    /// Mode and owner of the unix socket files.
    pub unix_socket: UnixSocket,
    /// The time that calls in flight have to finish after a signal to stop; 1 ms to 1 h.
    pub drain_timeout: Duration,
    /// Limits on connections and calls.
    pub limits: Limits,
}

/// An address that serves gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A unix socket. Its directory exists, the socket itself need not.
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

/// Mode and owner of a unix socket file. Connecting takes write permission on the file (unix(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// The permission bits.
    pub mode: u32,
    /// The owner of the file.
    pub owner: Owner,
}

impl Default for UnixSocket {
    /// Only the process's own user may connect: without a policy, every client may do everything.
    fn default() -> Self {
        Self { mode: 0o600, owner: Owner::default() }
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

/// `[server.tls]`: the files, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then the intermediate certificates.
    pub certificate: PathBuf,
    /// The private key of the server's certificate: PKCS #8, PKCS #1 or SEC 1.
    pub private_key: PathBuf,
    /// The CA certificates that client certificates are verified against; `None` when no client certificate
    /// is required.
    pub client_ca: Option<PathBuf>,
}

/// The limits of `[server]` on connections and calls. Durations are from 1 ms to 1 h.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent connections, over all listeners; 1 to 1,000,000. A connection over the limit is closed at
    /// once.
    pub max_connections: usize,
    /// Concurrent TLS handshakes, over all listeners; 1 to 100,000.
    pub max_handshakes: usize,
    /// The time that a connection has to complete TLS and send the HTTP/2 preface.
    pub handshake_timeout: Duration,
    /// Concurrent calls, over all connections; 1 to 1,000,000. A call over the limit is UNAVAILABLE.
    pub max_concurrent_calls: usize,
    /// The longest request message; 1,024 to 4,194,304 bytes. a longer one is INVALID_ARGUMENT.
    pub max_request_bytes: usize,
    /// The largest header list, by RFC 9113's measure (section 6.5.2); 1,024 to 1,048,576 bytes.
    pub max_header_list_bytes: u32,
    /// Concurrent calls on one connection (SETTINGS_MAX_CONCURRENT_STREAMS); 1 to 1,000,000. A client queues
    /// the calls over the limit.
    pub max_streams_per_connection: u32,
    /// Calls on one connection that were reset before hyper accepted them; 1 to 1,000,000. A connection over
    /// the limit is closed (GOAWAY, ENHANCE_YOUR_CALM).
    pub max_pending_resets: usize,
    /// Calls on one connection that were reset soon after they began, in one [`Self::reset_window`]; also the
    /// HTTP/2 violations that make this server reset a stream, over the connection's life. 1 to 1,000,000. A
    /// connection over the limit is closed.
    pub max_resets_per_window: usize,
    /// The window of [`Self::max_resets_per_window`].
    pub reset_window: Duration,
    /// The time without a frame from the client after which the server sends an HTTP/2 PING.
    pub keepalive_interval: Duration,
    /// The time that the client has to answer the PING.
    pub keepalive_timeout: Duration,
    /// The age at which a connection stops taking calls (GOAWAY), plus or minus a tenth; `None` (`"off"`) for
    /// no limit.
    pub max_connection_age: Option<Duration>,
    /// The time that the calls in flight then have to finish.
    pub max_connection_age_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            max_connections: 10_000,
            max_handshakes: 256,
            handshake_timeout: seconds(10),
            max_concurrent_calls: 4096,
            // A name is at most 804 characters. The rest is for the filter.
            max_request_bytes: 64 * 1024,
            // A Python future's headers grow by one with each poll (google.api_core, `operation.from_gapic`
            // with `grpc_metadata`).
            max_header_list_bytes: 64 * 1024,
            max_streams_per_connection: 1024,
            max_pending_resets: 256,
            // Equal to max_concurrent_calls: all callers behind one proxy may give up at the same time.
            max_resets_per_window: 4096,
            reset_window: seconds(30),
            keepalive_interval: seconds(30),
            keepalive_timeout: seconds(10),
            // Client certificates are verified once per connection, and load balancers distribute
            // connections, not calls. Both must be repeated from time to time.
            max_connection_age: Some(seconds(30 * 60)),
            // The longest wait (`polling.max_wait`) and its response.
            max_connection_age_grace: seconds(11 * 60),
        }
    }
}

/// `[callers]`: the evidence of a caller's identity that is accepted. Verified client certificates and the
/// users of unix sockets always are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Callers {
    /// Whether the last element of a mesh proxy's `x-forwarded-client-cert` names the caller.
    pub forwarded_client_cert: bool,
    /// Whether a mesh proxy's `l5d-client-id` names the caller.
    pub linkerd_client_id: bool,
    /// The mesh proxies on other machines, each by the SPIFFE ID or a DNS name of its verified certificate. A
    /// proxy on this machine, on loopback or a unix socket, need not be named.
    pub mesh_proxies: Vec<Identity>,
    /// The issuer whose bearer tokens are accepted.
    pub jwt: Option<Jwt>,
}

/// `[callers.jwt]`: an issuer whose bearer tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// The `iss` of its tokens; not empty.
    pub issuer: String,
    /// The audiences that stand for this service. The `aud` of a token must be, or contain, one of them. At
    /// least one, none empty.
    pub audiences: Vec<String>,
    /// The signature algorithms that are accepted; at least one.
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
        /// A PEM file of at least one certificate, trusted beside the public roots.
        ca_certificates: Option<PathBuf>,
        /// A file with the bearer token for the endpoint. Kubernetes' API server requires one.
        token_file: Option<PathBuf>,
    },
}

/// The directory of a file that exists or is to be created.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
