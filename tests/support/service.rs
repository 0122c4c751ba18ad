//! The service in this process, on an ephemeral port of loopback.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use countermand::{
    app::{App, Defect},
    config::{Config, Environment, ListenAddress, Overrides},
    proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient},
    server::Drained,
    serving::Serving,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use super::{
    account, grpc, issuer, soon,
    tls::{Authority, Pair},
    upstream::Upstream,
};

/// The settings of `server.tls`, and the files that tests give them.
const TLS_FILES: [(&str, &str); 3] = [
    ("COUNTERMAND_SERVER_TLS_CERTIFICATE", "tls.crt"),
    ("COUNTERMAND_SERVER_TLS_PRIVATE_KEY", "tls.key"),
    ("COUNTERMAND_SERVER_TLS_CLIENT_CA", "clients.pem"),
];

/// Where calls leave their lines.
const AUDIT_LOG: &str = "audit.jsonl";

/// How a service is to be started.
pub(crate) struct Setup {
    overrides: Overrides,
    variables: Vec<(&'static str, String)>,
    files: TempDir,
}

impl Setup {
    /// In front of an API, with the key file `credentials`.
    pub(crate) fn new(upstream_url: &str, credentials: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("credentials.json");
        std::fs::write(&path, credentials).unwrap();
        let overrides = Overrides {
            listen: vec!["127.0.0.1:0".to_owned()],
            admin_listen: Some("127.0.0.1:0".to_owned()),
            credentials: Some(path),
            upstream_url: Some(upstream_url.to_owned()),
            ..Overrides::default()
        };
        let audit_log = files.path().join(AUDIT_LOG).to_str().unwrap().to_owned();
        Self { overrides, variables: vec![("COUNTERMAND_AUDIT_FILE", audit_log)], files }
    }

    /// In front of `upstream`, which serves the tokens too.
    pub(crate) fn of(upstream: &Upstream) -> Self {
        Self::with_tokens_of(upstream, upstream.url())
    }

    /// In front of an API, with tokens of `tokens`.
    pub(crate) fn with_tokens_of(tokens: &Upstream, upstream_url: &str) -> Self {
        Self::new(upstream_url, &account::key_file(&tokens.token_url()))
    }

    /// `upstream.ca_certificates`.
    pub(crate) fn ca(mut self, pem: &str) -> Self {
        let path = self.files.path().join("ca.pem");
        std::fs::write(&path, pem).unwrap();
        self.overrides.upstream_ca = Some(path);
        self
    }

    /// Any setting, by its variable.
    pub(crate) fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// `callers.jwt`, of the issuer of the tests, whose keys are at `jwks`: a URL or a file.
    pub(crate) fn tokens_of_issuer(self, jwks: &str) -> Self {
        self.variable("COUNTERMAND_CALLERS_JWT_ISSUER", issuer::ISSUER)
            .variable("COUNTERMAND_CALLERS_JWT_AUDIENCE", issuer::AUDIENCE)
            .variable("COUNTERMAND_CALLERS_JWT_JWKS", jwks)
    }

    /// `upstream.timeout`, as a configuration writes it.
    pub(crate) fn timeout(mut self, timeout: &str) -> Self {
        self.variables.push(("COUNTERMAND_UPSTREAM_TIMEOUT", timeout.to_owned()));
        self
    }

    /// `policy.file`, of this content.
    pub(crate) fn policy(mut self, text: &str) -> Self {
        let path = self.files.path().join("policy.cedar");
        std::fs::write(&path, text).unwrap();
        self.overrides.policy = Some(path);
        self
    }

    /// Listens on a unix socket too.
    pub(crate) fn unix(mut self) -> Self {
        self.overrides.listen.push(format!("unix:{}", self.files.path().join("s.sock").display()));
        self
    }

    /// `server.max_concurrent_calls`.
    pub(crate) fn places(mut self, calls: usize) -> Self {
        self.variables.push(("COUNTERMAND_MAX_CONCURRENT_CALLS", calls.to_string()));
        self
    }

    /// A setting by its variable, `COUNTERMAND_` and `name`.
    pub(crate) fn set(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// `server.tls`: serves by `pair`, and demands certificates of `clients` where there is one.
    pub(crate) fn tls(self, pair: &Pair, clients: Option<&Authority>) -> Self {
        let [certificate, key, ca] = TLS_FILES.map(|(_, file)| self.files.path().join(file));
        pair.write(&certificate, &key);
        let mut files = vec![certificate, key];
        if let Some(clients) = clients {
            std::fs::write(&ca, clients.pem()).unwrap();
            files.push(ca);
        }
        let given = TLS_FILES.into_iter().zip(files);
        given.fold(self, |setup, ((name, _), file)| setup.set(name, file.to_str().unwrap()))
    }

    /// Starts it, and waits until it has a token.
    pub(crate) async fn start(self) -> Service {
        let mut service = self.start_without_token().await;
        service.ready().await;
        service
    }

    /// Starts it; whether it gets a token is another matter.
    pub(crate) async fn start_without_token(self) -> Service {
        let Self { overrides, variables, files } = self;
        let environment: Environment =
            variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let config = Config::load(overrides, environment).unwrap_or_else(|faults| panic!("{faults}"));
        let app = App::start(&config).await.unwrap();
        let addresses = app.addresses();
        let [ListenAddress::Tcp(address), ..] = addresses[..] else { panic!("{addresses:?}") };
        let (admin, serving) = (app.admin_address().unwrap(), app.serving());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async { drop(stopped.await) }));
        // Not before it is used: some tests count connections, and over TLS it would not do.
        let channel = endpoint(address).connect_lazy();
        Service { address, admin, serving, stop, running, channel, files }
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}

/// A running service. It ends with its test's runtime, or by [`Service::drain`].
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    serving: watch::Receiver<Serving>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<Drained, Defect>>,
    channel: Channel,
    files: TempDir,
}

impl Service {
    /// Waits until it has a token.
    pub(crate) async fn ready(&mut self) {
        let ready = self.serving.wait_for(|serving| *serving == Serving::Ready);
        soon("the service to be ready", ready).await.unwrap();
    }

    /// A client on the connection that all clients of this method share.
    pub(crate) fn client(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel.clone())
    }

    /// A client with a connection of its own.
    pub(crate) async fn connect(&self) -> OperationsClient<Channel> {
        OperationsClient::new(endpoint(self.address).connect().await.unwrap())
    }

    /// A client on the unix socket, with a connection of its own.
    pub(crate) async fn connect_by_unix(&self) -> OperationsClient<Channel> {
        let socket = format!("unix:{}", self.files.path().join("s.sock").display());
        OperationsClient::new(Endpoint::from_shared(socket).unwrap().connect().await.unwrap())
    }

    /// A client that shows the wire, with a connection of its own.
    pub(crate) async fn wire(&self) -> grpc::Wire {
        grpc::Wire::open(self.address).await
    }

    /// The files of [`Setup::tls`]: certificate, key and client CA.
    pub(crate) fn tls_files(&self) -> [PathBuf; 3] {
        TLS_FILES.map(|(_, file)| self.files.path().join(file))
    }

    /// The shared connection, for other services than ours.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// `CancelOperation`.
    pub(crate) async fn cancel(&self, name: &str) -> Result<(), Status> {
        cancel(&mut self.client(), name).await
    }

    /// The lines of the audit log so far.
    pub(crate) fn audit_log(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.files.path().join(AUDIT_LOG)).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for a line of a call of `method` that ended with `code`.
    pub(crate) async fn recorded(&self, method: &str, code: &str) -> Value {
        soon("a line of the audit log", async {
            loop {
                let mut log = self.audit_log().into_iter();
                if let Some(line) = log.find(|line| line["method"] == method && line["code"] == code) {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Asks it to stop, as a signal would, and waits for its end.
    pub(crate) async fn drain(self) -> Drained {
        self.stop.send(()).unwrap();
        soon("the end of the drain", self.running).await.unwrap().unwrap()
    }
}

/// `CancelOperation` by `client`.
pub(crate) async fn cancel(client: &mut OperationsClient<Channel>, name: &str) -> Result<(), Status> {
    let request = Request::new(CancelOperationRequest { name: name.to_owned() });
    soon("an answer", client.cancel_operation(request)).await.map(tonic::Response::into_inner)
}
