//! How the client commands reach a server, and for how long they try.

use std::{error::Error, fs, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use http::uri::Authority;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Response, Status, TimeoutExpired,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{exit::Exit, output::Failure};
use crate::config::{certificates, readable};

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

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerAddress {
    /// `host:port`: TLS when a TLS flag is given.
    Either(Authority),
    /// `http://…`: plaintext.
    Plain(Authority),
    /// `https://…`: TLS.
    Tls(Authority),
    /// `unix:/path`: plaintext.
    Unix(String),
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str = "give HOST:PORT, http://…, https://… or unix:/PATH";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(FORMS.to_owned()) } else { Ok(Self::Unix(path.to_owned())) };
        }
        let (make, rest): (fn(Authority) -> Self, _) = match text.split_once("://") {
            Some(("http", rest)) => (Self::Plain, rest),
            Some(("https", rest)) => (Self::Tls, rest),
            Some(_) => return Err(FORMS.to_owned()),
            None => (Self::Either, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: Authority = rest.parse().map_err(|error| format!("{error}; {FORMS}"))?;
        let has_scheme = text.contains("://");
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(FORMS.to_owned());
        }
        match authority.port_u16() {
            Some(1..) => Ok(make(authority)),
            None if has_scheme && authority.port().is_none() && !rest.ends_with(':') => Ok(make(authority)),
            _ => Err(format!("a port from 1 to 65535 is missing; {FORMS}")),
        }
    }
}

/// A server that can be called, until the deadline.
pub(crate) struct Server {
    /// What the generated clients call through.
    pub(crate) channel: Channel,
    deadline: Instant,
}

impl Server {
    /// Connects. `timeout` covers this and the call.
    ///
    /// # Errors
    ///
    /// Flags that contradict each other, TLS files of no use, and a server that cannot be reached.
    pub(crate) async fn connect(args: ServerArgs, timeout: Duration) -> Result<Self, Failure> {
        let deadline = Instant::now() + timeout;
        let endpoint = endpoint(args)?.connect_timeout(timeout);
        match timeout_at(deadline, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(Self { channel, deadline }),
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(Failure::new(
                Status::unavailable("the server cannot be reached: no connection before the timeout"),
                Exit::Unreachable,
            )),
        }
    }

    /// Makes one call: sends what is left of the time as `grpc-timeout`, and holds to it here as well, for
    /// a server that does not.
    pub(crate) async fn call<T, U, F>(
        self,
        message: T,
        call: impl FnOnce(Channel, Request<T>) -> F,
    ) -> Result<U, Failure>
    where
        F: Future<Output = Result<Response<U>, Status>>,
    {
        let Self { channel, deadline } = self;
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        match timeout_at(deadline, call(channel, request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(of_status(status)),
            Err(_) => Err(late()),
        }
    }
}

fn late() -> Failure {
    Failure::new(Status::deadline_exceeded("no answer before the timeout"), Exit::Failed)
}

/// A status with a source was made here, not by the server: the connection broke, or tonic's own clock
/// (which says CANCELLED) was a hair faster than ours.
fn of_status(status: Status) -> Failure {
    match status.source() {
        Some(source) if causes(source).any(|cause| cause.is::<TimeoutExpired>()) => late(),
        Some(source) => {
            let message = format!("the connection broke before an answer came: {}", chain(source));
            Failure::new(Status::new(Code::Unavailable, message), Exit::Unreachable)
        }
        None => Failure::new(status, Exit::Failed),
    }
}

fn unreachable(error: &tonic::transport::Error) -> Failure {
    let message = format!("the server cannot be reached: {}", chain(error));
    Failure::new(Status::unavailable(message), Exit::Unreachable)
}

fn endpoint(args: ServerArgs) -> Result<Endpoint, Failure> {
    let ServerArgs { server, tls_ca, tls_cert, tls_key } = args;
    let usage = |what: &str| Failure::new(Status::invalid_argument(what), Exit::Usage);
    let flagged = tls_ca.is_some() || tls_cert.is_some();
    let (uri, tls) = match &server {
        ServerAddress::Unix(_) if flagged => {
            return Err(usage("a unix socket is served without TLS: leave the --tls-… flags out"));
        }
        ServerAddress::Plain(_) if flagged => {
            return Err(usage("http:// is without TLS: give https://, or leave the --tls-… flags out"));
        }
        ServerAddress::Unix(path) => (format!("unix:{path}"), false),
        ServerAddress::Plain(authority) => (format!("http://{authority}"), false),
        ServerAddress::Either(authority) if !flagged => (format!("http://{authority}"), false),
        ServerAddress::Either(authority) | ServerAddress::Tls(authority) => {
            (format!("https://{authority}"), true)
        }
    };
    let endpoint = Endpoint::from_shared(uri)
        .and_then(|endpoint| endpoint.user_agent(concat!("countermand/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| usage(&chain(&error)))?;
    if !tls {
        return Ok(endpoint);
    }
    let mut config = match tls_ca {
        None => ClientTlsConfig::new().trust_anchors(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            certificates(&path).map_err(|wrong| unusable("--tls-ca", &wrong.to_string()))?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("--tls-ca", &path)?))
        }
    };
    if let (Some(certificate), Some(key)) = (tls_cert, tls_key) {
        let certificate = read("--tls-cert", &certificate)?;
        config = config.identity(Identity::from_pem(certificate, read("--tls-key", &key)?));
    }
    endpoint.tls_config(config).map_err(|error| unusable("the TLS files", &chain(&error)))
}

fn read(flag: &str, path: &PathBuf) -> Result<Vec<u8>, Failure> {
    readable(path).map_err(|wrong| unusable(flag, &wrong.to_string()))?;
    fs::read(path).map_err(|error| unusable(flag, &error.to_string()))
}

fn unusable(what: &str, why: &str) -> Failure {
    Failure::new(Status::failed_precondition(format!("{what}: {why}")), Exit::Config)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
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
