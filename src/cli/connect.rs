//! How the client commands reach a server, and for how long they try.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use rustls::RootCertStore;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Response, Status, TimeoutExpired,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use zeroize::Zeroizing;

use super::{address::ServerAddress, exit::Exit, failure::Failure};
use crate::{file_watch, pem};

/// Which server, and by which certificates.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server: HOST:PORT, http://…, https://… or unix:/PATH
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    #[arg(env = "COUNTERMAND_SERVER", hide_env_values = true)]
    server: ServerAddress,

    /// Use TLS and trust these CA certificates (PEM) rather than the public ones
    #[arg(long, value_name = "FILE", env = "COUNTERMAND_TLS_CA", hide_env_values = true)]
    tls_ca: Option<PathBuf>,

    /// Use TLS and show this client certificate (PEM)
    #[arg(long, value_name = "FILE", env = "COUNTERMAND_TLS_CERT", hide_env_values = true)]
    #[arg(requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key (PEM) of --tls-cert
    #[arg(long, value_name = "FILE", env = "COUNTERMAND_TLS_KEY", hide_env_values = true)]
    #[arg(requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl ServerArgs {
    fn uses_tls(&self) -> bool {
        let Self { server, tls_ca, tls_cert, tls_key: _ } = self;
        matches!(server, ServerAddress::Tls(_)) || tls_ca.is_some() || tls_cert.is_some()
    }
}

/// What a broken connection may mean under TLS without a client certificate.
const ANONYMOUS: &str = "; if the server demands a client certificate, give --tls-cert and --tls-key";

/// A server that can be called, until the deadline.
pub(crate) struct Server {
    channel: Channel,
    deadline: Instant,
    /// TLS, and no client certificate: in TLS 1.3 a server that misses one says so only after the
    /// handshake, often by closing the connection.
    is_anonymous: bool,
}

impl Server {
    /// Connects. `timeout` covers this and all calls.
    ///
    /// # Errors
    ///
    /// Flags that contradict each other, TLS files of no use, and a server that cannot be reached.
    pub(crate) async fn connect(args: ServerArgs, timeout: Duration) -> Result<Self, Failure> {
        let deadline = Instant::now() + timeout;
        let server = args.server.to_string();
        let is_anonymous = args.tls_cert.is_none() && args.uses_tls();
        let endpoint = endpoint(args)?.connect_timeout(timeout);
        let cause = match timeout_at(deadline, endpoint.connect()).await {
            Ok(Ok(channel)) => return Ok(Self { channel, deadline, is_anonymous }),
            Ok(Err(error)) => {
                let broke = causes(&error).any(is_break);
                chain(&error) + if broke && is_anonymous { ANONYMOUS } else { "" }
            }
            Err(_) => "no connection before the timeout".to_owned(),
        };
        let message = format!("{server} cannot be reached: {cause}");
        Err(Failure::new(Status::unavailable(message), Exit::Unreachable))
    }

    /// When the time is up.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Makes one call: sends what is left of the time as `grpc-timeout`, and holds to it here as well, for
    /// a server that does not.
    pub(crate) async fn call<T, U, F>(
        &self,
        message: T,
        call: impl FnOnce(Channel, Request<T>) -> F,
    ) -> Result<U, Failure>
    where
        F: Future<Output = Result<Response<U>, Status>>,
    {
        let Self { channel, deadline, is_anonymous } = self;
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        match timeout_at(*deadline, call(channel.clone(), request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(of_status(status, *is_anonymous)),
            Err(_) => Err(late()),
        }
    }
}

fn late() -> Failure {
    Failure::new(Status::deadline_exceeded("no answer before the timeout"), Exit::Failed)
}

/// A status with a source was made here, not by the server: the connection broke, or tonic's own clock
/// (which says CANCELLED) was a hair faster than ours.
fn of_status(status: Status, is_anonymous: bool) -> Failure {
    match status.source() {
        Some(source) if causes(source).any(|cause| cause.is::<TimeoutExpired>()) => late(),
        Some(source) => {
            let mut message = format!("the connection broke before an answer came: {}", chain(source));
            if is_anonymous {
                message
                    .push_str("; if the server demands a client certificate, give --tls-cert and --tls-key");
            }
            Failure::new(Status::new(Code::Unavailable, message), Exit::Unreachable)
        }
        None => Failure::new(status, Exit::Failed),
    }
}

fn endpoint(args: ServerArgs) -> Result<Endpoint, Failure> {
    let usage = |what: &str| Failure::new(Status::invalid_argument(what), Exit::Usage);
    let tls = args.uses_tls();
    let ServerArgs { server, tls_ca, tls_cert, tls_key } = args;
    let uri = match (server, tls) {
        (ServerAddress::Unix(_), true) => {
            return Err(usage("a unix socket is served without TLS: leave the --tls-… flags out"));
        }
        (ServerAddress::Plain(_), true) => {
            return Err(usage("http:// is without TLS: give https://, or leave the --tls-… flags out"));
        }
        (ServerAddress::Unix(path), false) => format!("unix:{path}"),
        (ServerAddress::Either(authority) | ServerAddress::Plain(authority), false) => {
            format!("http://{authority}")
        }
        (ServerAddress::Either(authority), true) | (ServerAddress::Tls(authority), _) => {
            format!("https://{authority}")
        }
    };
    let endpoint = Endpoint::from_shared(uri)
        .and_then(|endpoint| endpoint.user_agent(concat!("countermand/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| usage(&chain(&error)))?
        // A wait is silent for minutes: a peer that has vanished must not be waited for, nor a router
        // forget the connection. HTTP/2's own pings would do it too, but some servers punish them.
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .tcp_keepalive_interval(Some(Duration::from_secs(10)))
        .tcp_keepalive_retries(Some(3));
    if !tls {
        return Ok(endpoint);
    }
    let mut config = match tls_ca {
        None => ClientTlsConfig::new().trust_anchors(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let content = read("--tls-ca", &path)?;
            pem::add_roots(&content, &mut RootCertStore::empty())
                .map_err(|error| unusable("--tls-ca", &format!("the file {error}")))?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(content))
        }
    };
    if let (Some(certificate), Some(key)) = (tls_cert, tls_key) {
        let certificate = read("--tls-cert", &certificate)?;
        config = config.identity(Identity::from_pem(certificate, read("--tls-key", &key)?));
    }
    endpoint.tls_config(config).map_err(|error| unusable("the TLS files", &chain(&error)))
}

fn read(flag: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    file_watch::read(path).map_err(|error| unusable(flag, &format!("cannot read the file: {error}")))
}

fn unusable(what: &str, why: &str) -> Failure {
    Failure::new(Status::failed_precondition(format!("{what}: {why}")), Exit::Config)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Whether the peer ended a connection that it had accepted.
fn is_break(error: &(dyn Error + 'static)) -> bool {
    use std::io::{Error, ErrorKind};
    let kind = error.downcast_ref::<Error>().map(Error::kind);
    matches!(kind, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted))
}

/// The error and its causes as one text, without the words that say nothing and what is said twice.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in causes(error).map(ToString::to_string) {
        if text != "transport error" && !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}
