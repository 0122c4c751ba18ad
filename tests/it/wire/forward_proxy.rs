//! The proxy variables. Each test starts a process, because a process reads the variables once.

use std::{net::SocketAddr, process::Stdio};

use countermand::proto::longrunning::operations_client::OperationsClient;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use tonic::transport::Endpoint;

use crate::{
    support::{
        account,
        forward_proxy::ForwardProxy,
        reply::Reply,
        service,
        tls::{API_HOST, Authority, H2, HTTP1, TOKEN_HOST},
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

/// A `countermand serve` process. Dropping the value kills the process.
struct ServeProcess {
    _child: Child,
    address: SocketAddr,
    _files: TempDir,
}

impl ServeProcess {
    /// Starts the process and waits until it has a token.
    async fn start(api: &str, token_url: &str, ca: &str, variables: &[(&str, &str)]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (key, authority) = (files.path().join("key.json"), files.path().join("ca.pem"));
        std::fs::write(&key, account::key_file(token_url)).unwrap();
        std::fs::write(&authority, ca).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_countermand"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--log-format", "json"])
            .args(["--upstream-url", api])
            .args(["--credentials".as_ref(), key.as_os_str()])
            .args(["--upstream-ca".as_ref(), authority.as_os_str()])
            .env_clear()
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = with_timeout("the process to be ready", async {
            let mut address = None;
            let mut log = String::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                match json["fields"]["message"].as_str().or(json["message"].as_str()) {
                    Some("listening") => {
                        let found = json["fields"]["address"].as_str().or(json["address"].as_str());
                        address = Some(found.unwrap().parse().unwrap());
                    }
                    Some("serving") => return address.unwrap(),
                    _ => {}
                }
                log.push_str(&line);
            }
            panic!("the process exited: {log}");
        })
        .await;
        // A full pipe would block the process, so a task reads the rest of the log.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { _child: child, address, _files: files }
    }

    async fn cancel(&self) -> Result<(), tonic::Status> {
        let channel = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let mut client = OperationsClient::new(channel.connect().await.unwrap());
        service::cancel(&mut client, NAME).await
    }
}

#[tokio::test]
async fn the_api_and_the_token_endpoint_are_reached_through_the_https_proxy() {
    let authority = Authority::new();
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let upstream = Upstream::start_tls(&authority, &[H2, HTTP1]).await;
        upstream.answers([Reply::ok()]);
        let proxy = ForwardProxy::start(upstream.address).await;
        let (api, token_url) = (format!("https://{API_HOST}"), format!("https://{TOKEN_HOST}/token"));
        let variables = [(variable, &*proxy.url)];
        let serve = ServeProcess::start(&api, &token_url, &authority.pem(), &variables).await;
        serve.cancel().await.unwrap();
        let want = [TOKEN_HOST, API_HOST].map(|host| format!("CONNECT {host}:443 HTTP/1.1"));
        assert_eq!(proxy.request_lines(), want, "{variable}");
    }
}

#[tokio::test]
async fn hosts_in_no_proxy_are_reached_directly() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(&authority, &[H2, HTTP1]).await;
    upstream.answers([Reply::ok()]);
    let proxy = ForwardProxy::start(upstream.address).await;
    let token_url = format!("https://{TOKEN_HOST}/token");
    let variables = [("HTTPS_PROXY", &*proxy.url), ("NO_PROXY", "example.com, 127.0.0.1")];
    let serve = ServeProcess::start(upstream.url(), &token_url, &authority.pem(), &variables).await;
    serve.cancel().await.unwrap();
    assert_eq!(proxy.request_lines(), [format!("CONNECT {TOKEN_HOST}:443 HTTP/1.1")]);
}

#[tokio::test]
async fn a_plaintext_loopback_upstream_is_not_reached_through_a_proxy() {
    let authority = Authority::new();
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let proxy = ForwardProxy::start(upstream.address).await;
    let variables = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"].map(|name| (name, &*proxy.url));
    let (api, token_url) = (upstream.url(), upstream.token_url());
    let serve = ServeProcess::start(api, &token_url, &authority.pem(), &variables).await;
    serve.cancel().await.unwrap();
    assert_eq!(proxy.request_lines(), [""; 0]);
}
