//! The service in this process, on an ephemeral port of loopback.

use std::net::SocketAddr;

use countermand::{
    app::{App, Defect},
    config::{Config, Environment, ListenAddress, Overrides},
    proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient},
    server::Drained,
    serving::Serving,
};
use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use super::{account, grpc, soon, upstream::Upstream};

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
        Self { overrides, variables: Vec::new(), files }
    }

    /// In front of `upstream`, which serves the tokens too.
    pub(crate) fn of(upstream: &Upstream) -> Self {
        Self::with_tokens_of(upstream, upstream.url())
    }

    /// In front of an API, with tokens of `tokens`.
    pub(crate) fn with_tokens_of(tokens: &Upstream, upstream_url: &str) -> Self {
        Self::new(upstream_url, &account::key_file(&tokens.token_url()))
    }

    /// With several credentials in place of the one: for each its name, what else the configuration says
    /// of it, and who gives it tokens.
    pub(crate) fn credentials(mut self, list: &[(&str, &str, &Upstream)]) -> Self {
        let mut sections = String::new();
        for (name, more, tokens) in list {
            let key = account::key_file(&tokens.token_url());
            std::fs::write(self.files.path().join(format!("{name}.json")), key).unwrap();
            sections += &format!("[[credentials]]\nname = \"{name}\"\nfile = \"{name}.json\"\n{more}\n");
        }
        let path = self.files.path().join("countermand.toml");
        std::fs::write(&path, sections).unwrap();
        self.overrides = Overrides { config: Some(path), credentials: None, ..self.overrides };
        self
    }

    /// `upstream.ca_certificates`.
    pub(crate) fn ca(mut self, pem: &str) -> Self {
        let path = self.files.path().join("ca.pem");
        std::fs::write(&path, pem).unwrap();
        self.overrides.upstream_ca = Some(path);
        self
    }

    /// `upstream.timeout`, as a configuration writes it.
    pub(crate) fn timeout(mut self, timeout: &str) -> Self {
        self.variables.push(("COUNTERMAND_UPSTREAM_TIMEOUT", timeout.to_owned()));
        self
    }

    /// `upstream.iam_credentials_url`.
    pub(crate) fn iam(mut self, url: &str) -> Self {
        self.variables.push(("COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL", url.to_owned()));
        self
    }

    /// `server.max_concurrent_calls`.
    pub(crate) fn places(mut self, calls: usize) -> Self {
        self.variables.push(("COUNTERMAND_MAX_CONCURRENT_CALLS", calls.to_string()));
        self
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
        let [ListenAddress::Tcp(address)] = addresses[..] else { panic!("{addresses:?}") };
        let (admin, serving) = (app.admin_address().unwrap(), app.serving());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async { drop(stopped.await) }));
        let channel = connect(address).await;
        Service { address, admin, serving, stop, running, channel, files }
    }
}

async fn connect(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
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
        OperationsClient::new(connect(self.address).await)
    }

    /// A client that shows the wire, with a connection of its own.
    pub(crate) async fn wire(&self) -> grpc::Wire {
        grpc::Wire::open(self.address).await
    }

    /// The shared connection, for other services than ours.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// `CancelOperation`.
    pub(crate) async fn cancel(&self, name: &str) -> Result<(), Status> {
        cancel(&mut self.client(), name).await
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
