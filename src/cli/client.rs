//! The connection of a client command to a server, and its calls.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::Args;
use http::uri::Authority;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::RootCertStore;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Response, Status, TimeoutExpired,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{error::ClientError, exit::Exit};
use crate::{
    file_watch, pem,
    proto::longrunning::{
        CancelOperationRequest, GetOperationRequest, ListOperationsRequest, ListOperationsResponse,
        Operation, WaitOperationRequest, operations_client::OperationsClient,
    },
};

/// The size limit of a response. 4 MiB of Google's JSON can become several times larger as a `Struct`, where a number
/// takes more than ten bytes.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// The page size of a list that is read whole. The API reduces a size that is over its maximum.
pub(crate) const MAX_PAGE_SIZE: i32 = 1000;

/// The header by which a proxy can route a call, because it has the name of the resource (AIP-4222). Google's clients send
/// it too.
const ROUTING_HEADER: &str = "x-goog-request-params";

/// The characters that are escaped in the routing header: all but RFC 3986's unreserved ones.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The hint for a TLS connection that breaks without a client certificate. In TLS 1.3, a server that requires a
/// certificate often closes the connection after the handshake.
const CERTIFICATE_HINT: &str = "; if the server requires a client certificate, give --tls-cert and --tls-key";

/// The server and the TLS files.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server: HOST:PORT, http://…, https://… or unix:/PATH
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    #[arg(env = "COUNTERMAND_SERVER", hide_env_values = true)]
    server: ServerAddress,

    /// Use TLS, and trust these CA certificates (PEM) instead of the public ones
    #[arg(long, value_name = "FILE", env = "COUNTERMAND_TLS_CA", hide_env_values = true)]
    tls_ca: Option<PathBuf>,

    /// Use TLS, and present this client certificate (PEM)
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

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ServerAddress {
    /// `host:port`: TLS when a TLS flag is given.
    Either(Authority),
    /// `http://…`: plaintext.
    Plain(Authority),
    /// `https://…`: TLS.
    Tls(Authority),
    /// `unix:/path`: plaintext.
    Unix(String),
}

/// The address in the syntax of the command line.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Either(authority) => authority.fmt(f),
            Self::Plain(authority) => write!(f, "http://{authority}"),
            Self::Tls(authority) => write!(f, "https://{authority}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
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
            None if has_scheme && authority.host() == authority.as_str() => Ok(make(authority)),
            _ => Err(format!("a port from 1 to 65535 is missing; {FORMS}")),
        }
    }
}

/// A connected server, with one deadline for all calls, or a timeout per call.
pub(crate) struct ServerClient {
    channel: Channel,
    deadline: Instant,
    /// The timeout of each call, in place of `deadline`.
    call_timeout: Option<Duration>,
    /// `CERTIFICATE_HINT` on a TLS connection without a client certificate, otherwise empty.
    hint: &'static str,
}

impl ServerClient {
    /// Connects. `timeout` covers the connection and all calls.
    ///
    /// # Errors
    ///
    /// The flags contradict each other, a TLS file is unusable, or the server cannot be reached.
    pub(crate) async fn connect(args: ServerArgs, timeout: Duration) -> Result<Self, ClientError> {
        let deadline = Instant::now() + timeout;
        let server = args.server.to_string();
        let hint = if args.tls_cert.is_none() && args.uses_tls() { CERTIFICATE_HINT } else { "" };
        let endpoint = endpoint(args)?.connect_timeout(timeout);
        let cause = match timeout_at(deadline, endpoint.connect()).await {
            Ok(Ok(channel)) => return Ok(Self { channel, deadline, call_timeout: None, hint }),
            Ok(Err(error)) => chain(&error) + if causes(&error).any(is_closed) { hint } else { "" },
            Err(_) => "no connection before the timeout".to_owned(),
        };
        let message = format!("{server} cannot be reached: {cause}");
        Err(ClientError::new(Status::unavailable(message), Exit::Unreachable))
    }

    /// Gives each call its own timeout, in place of the deadline of all calls. A call after a lost connection connects
    /// again.
    pub(crate) fn with_call_timeout(self, timeout: Duration) -> Self {
        Self { call_timeout: Some(timeout), ..self }
    }

    /// The deadline of all calls.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// CancelOperation.
    pub(crate) async fn cancel(&self, name: &str) -> Result<(), ClientError> {
        let request = routed(name, CancelOperationRequest { name: name.to_owned() })?;
        self.call(request, |channel, request| async { operations(channel).cancel_operation(request).await })
            .await
    }

    /// GetOperation.
    pub(crate) async fn get(&self, name: &str) -> Result<Operation, ClientError> {
        let request = routed(name, GetOperationRequest { name: name.to_owned() })?;
        self.call(request, |channel, request| async { operations(channel).get_operation(request).await })
            .await
    }

    /// ListOperations, one page.
    pub(crate) async fn list(
        &self,
        request: ListOperationsRequest,
    ) -> Result<ListOperationsResponse, ClientError> {
        let request = routed(&request.name.clone(), request)?;
        self.call(request, |channel, request| async { operations(channel).list_operations(request).await })
            .await
    }

    /// ListOperations, all pages of one device.
    pub(crate) async fn list_device(&self, device: &str) -> Result<Vec<Operation>, ClientError> {
        let (name, page_size) = (device.to_owned(), MAX_PAGE_SIZE);
        let mut request = ListOperationsRequest { name, page_size, ..ListOperationsRequest::default() };
        let mut operations = Vec::new();
        loop {
            let page = self.list(request.clone()).await?;
            let ListOperationsResponse { operations: of_page, next_page_token, unreachable: _ } = page;
            operations.extend(of_page);
            if !advance(&mut request, next_page_token)? {
                return Ok(operations);
            }
        }
    }

    /// WaitOperation. Returns the operation when it is done, or its latest state after `timeout`.
    pub(crate) async fn wait(&self, name: &str, timeout: Duration) -> Result<Operation, ClientError> {
        // The command line limits a timeout to an hour, so neither part is out of range.
        let timeout = prost_types::Duration {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(timeout.subsec_nanos()).unwrap_or(0),
        };
        let request = routed(name, WaitOperationRequest { name: name.to_owned(), timeout: Some(timeout) })?;
        self.call(request, |channel, request| async { operations(channel).wait_operation(request).await })
            .await
    }

    /// Makes one call. Sends the remaining time as `grpc-timeout`, and enforces the deadline here too.
    pub(crate) async fn call<T, U, F>(
        &self,
        mut request: Request<T>,
        call: impl FnOnce(Channel, Request<T>) -> F,
    ) -> Result<U, ClientError>
    where
        F: Future<Output = Result<Response<U>, Status>>,
    {
        let now = Instant::now();
        let deadline = self.call_timeout.map_or(self.deadline, |timeout| now + timeout);
        request.set_timeout(deadline.saturating_duration_since(now));
        match timeout_at(deadline, call(self.channel.clone(), request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.error(status)),
            Err(_) => Err(deadline_exceeded()),
        }
    }

    /// Converts a status. A status with a source was created in this process: the connection broke, or tonic's timer
    /// fired just before this client's timer.
    fn error(&self, status: Status) -> ClientError {
        match status.source() {
            Some(source) if causes(source).any(|cause| cause.is::<TimeoutExpired>()) => deadline_exceeded(),
            Some(source) => {
                let message =
                    format!("the connection broke before the response: {}{}", chain(source), self.hint);
                ClientError::new(Status::new(Code::Unavailable, message), Exit::Unreachable)
            }
            None => ClientError::new(status, Exit::Failed),
        }
    }
}

/// A request about a resource, with the routing header.
fn routed<T>(name: &str, message: T) -> Result<Request<T>, ClientError> {
    let value = MetadataValue::try_from(format!("name={}", utf8_percent_encode(name, RESERVED)))
        .map_err(|error| ClientError::new(Status::invalid_argument(error.to_string()), Exit::Usage))?;
    let mut request = Request::new(message);
    request.metadata_mut().insert(ROUTING_HEADER, value);
    Ok(request)
}

/// Makes the request for the page after the one that had this `next_page_token`. Returns whether there is one.
///
/// # Errors
///
/// The token is that of the same page, so that the list would not end.
pub(crate) fn advance(
    request: &mut ListOperationsRequest,
    next_page_token: String,
) -> Result<bool, ClientError> {
    if next_page_token.is_empty() {
        return Ok(false);
    }
    if next_page_token == request.page_token {
        let message = "the server returned the token of this page as the token of the next page";
        return Err(ClientError::new(Status::internal(message), Exit::Failed));
    }
    request.page_token = next_page_token;
    Ok(true)
}

fn operations(channel: Channel) -> OperationsClient<Channel> {
    OperationsClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES)
}

fn deadline_exceeded() -> ClientError {
    ClientError::new(Status::deadline_exceeded("no response before the timeout"), Exit::Failed)
}

fn endpoint(args: ServerArgs) -> Result<Endpoint, ClientError> {
    let usage = |message: &str| ClientError::new(Status::invalid_argument(message), Exit::Usage);
    let tls = args.uses_tls();
    let ServerArgs { server, tls_ca, tls_cert, tls_key } = args;
    let uri = match (server, tls) {
        (ServerAddress::Unix(_), true) => {
            return Err(usage("a unix socket has no TLS: omit the --tls-… flags"));
        }
        (ServerAddress::Plain(_), true) => {
            return Err(usage("http:// has no TLS: give https://, or omit the --tls-… flags"));
        }
        // tonic removes "unix://" and does not decode the rest, so any path is valid.
        (ServerAddress::Unix(path), false) => format!("unix://{path}"),
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
        // A wait sends no data for minutes. TCP keepalive detects a dead peer and keeps NAT entries alive. HTTP/2 pings
        // are not used, because some servers close a connection for them.
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

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, ClientError> {
    file_watch::read(path).map_err(|error| unusable(flag, &format!("cannot read the file: {error}")))
}

fn unusable(subject: &str, problem: &str) -> ClientError {
    ClientError::new(Status::failed_precondition(format!("{subject}: {problem}")), Exit::Config)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Whether the peer closed a connection that it had accepted.
fn is_closed(error: &(dyn Error + 'static)) -> bool {
    use std::io::{Error, ErrorKind};
    let kind = error.downcast_ref::<Error>().map(Error::kind);
    matches!(kind, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted))
}

/// The error and its causes as one text, without repetitions and without tonic's "transport error".
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in causes(error).map(ToString::to_string) {
        if text != "transport error" && !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::ServerAddress;

    #[test]
    fn an_address_has_four_forms() {
        for (text, shown) in [
            ("127.0.0.1:50051", "127.0.0.1:50051"),
            ("[::1]:50051", "[::1]:50051"),
            ("mdm.example:443", "mdm.example:443"),
            ("http://localhost:50051/", "http://localhost:50051"),
            ("https://mdm.example", "https://mdm.example"),
            ("unix:/run/c.sock", "unix:/run/c.sock"),
            ("unix:///run/c.sock", "unix:/run/c.sock"),
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn an_invalid_address_is_rejected() {
        for text in [
            "",
            "localhost",
            ":50051",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            "https://h:",
            "https://",
            "https://h:99999",
            "https://h/path",
            "https://user@h",
            "ftp://h:1",
            "unix:",
            "a b:1",
            "h:1\n",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text:?}");
        }
    }
}
