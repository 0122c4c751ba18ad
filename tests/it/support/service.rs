//! The service in this process, on an ephemeral loopback port.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use countermand::{
    app::Defect,
    proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient},
    server::Drained,
    serving::Serving,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::UnixStream,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use super::{grpc, with_timeout};

mod setup;

pub(crate) use setup::Setup;

/// The environment variables of `server.tls`, and the names of their files.
const TLS_FILES: [(&str, &str); 3] = [
    ("COUNTERMAND_SERVER_TLS_CERTIFICATE", "tls.crt"),
    ("COUNTERMAND_SERVER_TLS_PRIVATE_KEY", "tls.key"),
    ("COUNTERMAND_SERVER_TLS_CLIENT_CA", "clients.pem"),
];

/// The file of `upstream.ca_certificates`.
const CA_FILE: &str = "ca.pem";

/// The file of `audit.file`.
const AUDIT_LOG: &str = "audit.jsonl";

/// The unix socket of [`Setup::unix`].
const UNIX_SOCKET: &str = "s.sock";

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}

/// A running service. It ends with the runtime of its test, or after [`Service::drain`].
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    /// The admin port.
    pub(crate) admin: SocketAddr,
    serving: watch::Receiver<Serving>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<Drained, Defect>>,
    channel: Channel,
    files: TempDir,
}

impl Service {
    /// Waits until the service has a token.
    pub(crate) async fn ready(&mut self) {
        let ready = self.serving.wait_for(|serving| *serving == Serving::Ready);
        with_timeout("the service to be ready", ready).await.unwrap();
    }

    /// A client on a connection that all clients from this method share.
    pub(crate) fn client(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel.clone())
    }

    /// A client with its own connection.
    pub(crate) async fn connect(&self) -> OperationsClient<Channel> {
        OperationsClient::new(endpoint(self.address).connect().await.unwrap())
    }

    /// A client with its own connection to the unix socket.
    pub(crate) async fn connect_by_unix(&self) -> OperationsClient<Channel> {
        let socket = format!("unix:{}", self.files.path().join(UNIX_SOCKET).display());
        OperationsClient::new(Endpoint::from_shared(socket).unwrap().connect().await.unwrap())
    }

    /// A low-level client with its own connection.
    pub(crate) async fn wire(&self) -> grpc::Wire {
        grpc::Wire::open(self.address).await
    }

    /// A low-level client with its own connection to the unix socket.
    pub(crate) async fn wire_by_unix(&self) -> grpc::Wire {
        grpc::Wire::over(UnixStream::connect(self.files.path().join(UNIX_SOCKET)).await.unwrap()).await
    }

    /// The file of the unix socket.
    pub(crate) fn unix_socket(&self) -> PathBuf {
        self.files.path().join(UNIX_SOCKET)
    }

    /// The files of [`Setup::tls`]: certificate, key and client CA.
    pub(crate) fn tls_files(&self) -> [PathBuf; 3] {
        TLS_FILES.map(|(_, file)| self.files.path().join(file))
    }

    /// The file of [`Setup::ca`].
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.files.path().join(CA_FILE)
    }

    /// The shared connection, for clients of other gRPC services.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Calls `CancelOperation`.
    pub(crate) async fn cancel(&self, name: &str) -> Result<(), Status> {
        cancel(&mut self.client(), name).await
    }

    /// The text of the audit log so far.
    pub(crate) fn audit_text(&self) -> String {
        std::fs::read_to_string(self.files.path().join(AUDIT_LOG)).unwrap()
    }

    /// The lines of the audit log so far.
    pub(crate) fn audit_log(&self) -> Vec<Value> {
        self.audit_text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for the audit line of a call of `method` that ended with `code`.
    pub(crate) async fn audit_line(&self, method: &str, code: &str) -> Value {
        with_timeout("an audit line", async {
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

    /// Starts a drain, as a signal does, and waits for its end.
    pub(crate) async fn drain(self) -> Drained {
        self.stop.send(()).unwrap();
        with_timeout("the end of the drain", self.running).await.unwrap().unwrap()
    }
}

/// Calls `CancelOperation` with `client`.
pub(crate) async fn cancel(client: &mut OperationsClient<Channel>, name: &str) -> Result<(), Status> {
    let request = Request::new(CancelOperationRequest { name: name.to_owned() });
    with_timeout("a response", client.cancel_operation(request)).await.map(tonic::Response::into_inner)
}
