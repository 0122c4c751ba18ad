//! `countermand serve` with the emulator's credentials. All output of the service is searched for secrets.

use std::{net::SocketAddr, path::Path, time::Duration};

use countermand::proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient};
use countermand_emulator::{Emulator, Endpoint, Kind, Quota, Settings};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint as Address},
};

use crate::{
    credentials::{search::Secrets, test_credential::TestCredential},
    support::process::{Ended, LIMIT, Process, countermand},
};

/// The log filter that shows every line, of each library too.
pub(crate) const LOG_EVERYTHING: &str = "trace,countermand=trace,yup_oauth2=trace,hyper=trace,hyper_util=trace,\
    reqwest=trace,h2=trace,rustls=trace,jsonwebtoken=trace,cedar_policy=trace,cedar_policy_core=trace,\
    tonic=trace,tower=trace,aws_lc_rs=trace";

pub(crate) async fn emulator(token_lifetime: Duration) -> Emulator {
    let settings = Settings { pick_up: None, quota: Quota::UNLIMITED, token_lifetime, ..Settings::default() };
    Emulator::start("127.0.0.1:0".parse().unwrap(), settings).await.unwrap()
}

pub(crate) struct Service<'a> {
    emulator: &'a Emulator,
    pub(crate) process: Process,
    admin: SocketAddr,
    admin_client: reqwest::Client,
    pub(crate) channel: Channel,
    /// The responses to callers and operators.
    responses: Vec<String>,
    pub(crate) dir: TempDir,
}

/// Writes the file of every kind, and a configuration `c.toml` for `credentials`.
pub(crate) fn write_config(dir: &Path, emulator: &Emulator, credentials: &[TestCredential]) {
    for kind in Kind::ALL {
        emulator.credential_file(kind).write(&dir.join(format!("{}.json", kind.name()))).unwrap();
    }
    let url = emulator.url();
    // With a shorter timeout, a cancel would be hedged on a busy machine, and the hedge would find the operation done.
    let mut config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [upstream]\nurl = \"{url}\"\niam_credentials_url = \"{url}\"\ntimeout = \"30s\"\n"
    );
    config.extend(credentials.iter().map(|credential| credential.section(emulator)));
    std::fs::write(dir.join("c.toml"), config).unwrap();
}

impl<'a> Service<'a> {
    /// Starts a service with these credentials, and waits until it listens.
    pub(crate) async fn start(emulator: &'a Emulator, credentials: &[TestCredential]) -> Self {
        Self::start_with(emulator, credentials, |_, _| {}).await
    }

    /// As [`Self::start`]. `adjust` adds to the environment or to the directory.
    pub(crate) async fn start_with(
        emulator: &'a Emulator,
        credentials: &[TestCredential],
        adjust: impl FnOnce(&mut Command, &Path),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_config(dir.path(), emulator, credentials);
        let mut command = countermand(&["serve", "--config", "c.toml"]);
        command.current_dir(&dir).env("RUST_LOG", LOG_EVERYTHING);
        command.env("GCE_METADATA_HOST", emulator.metadata_host());
        adjust(&mut command, dir.path());
        let process = Process::start(&mut command);
        let address = process.stderr.see(|log| listening(log, "listening")).await;
        let admin = process.stderr.see(|log| listening(log, "listening on the admin port")).await;
        let channel = Address::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { emulator, process, admin, admin_client: admin_client(), channel, responses: Vec::new(), dir }
    }

    /// Cancels a new operation in an enterprise. Returns the principal of the upstream call.
    pub(crate) async fn cancel(&mut self, enterprise: &str) -> Result<String, Status> {
        let control = self.emulator.control();
        let device = format!("enterprises/{enterprise}/devices/d1");
        let issued = control.issue_command(&device, json!({ "type": "LOCK" })).unwrap();
        let name = issued["name"].as_str().unwrap().to_owned();
        let response = self.call(Request::new(CancelOperationRequest { name: name.clone() })).await;
        response.map(|()| {
            assert_eq!(control.operation(&name).unwrap()["error"]["code"], 1, "{name}");
            control.callers().pop().unwrap()
        })
    }

    /// Sends a call. [`Self::end`] searches the response for secrets.
    pub(crate) async fn call(&mut self, request: Request<CancelOperationRequest>) -> Result<(), Status> {
        let mut client = OperationsClient::new(self.channel.clone());
        let response = timeout(LIMIT, client.cancel_operation(request)).await.expect("a response");
        self.responses.push(format!("{response:?}"));
        if let Err(status) = &response {
            self.responses.push(String::from_utf8_lossy(status.details()).into_owned());
        }
        response.map(|_| ())
    }

    /// The state of each credential, from the JSON of `/readyz`. The text page is recorded too.
    pub(crate) async fn credential_states(&mut self) -> Vec<Value> {
        let url = format!("http://{}/readyz", self.admin);
        let text = self.admin_client.get(&url).send().await.unwrap().text().await.unwrap();
        let json = self.admin_client.get(&url).header("accept", "application/json").send().await.unwrap();
        let json = json.text().await.unwrap();
        let page: Value = serde_json::from_str(&json).unwrap();
        self.responses.extend([text, json]);
        page["credentials"].as_array().unwrap().clone()
    }

    /// Waits until `/readyz` shows a state of the credential that `is_wanted` accepts. Returns the state.
    pub(crate) async fn wait_for_state(&mut self, name: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let end = std::time::Instant::now() + LIMIT;
        loop {
            let states = self.credential_states().await;
            let found = states.into_iter().find(|line| line["name"] == name).expect("a credential's line");
            if is_wanted(&found) {
                return found;
            }
            assert!(std::time::Instant::now() < end, "{name} stays {found}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Cancels an operation with each credential, and asserts that the upstream call has its principal.
    pub(crate) async fn assert_principals(&mut self, emulator: &Emulator) {
        for credential in TestCredential::all() {
            let principal = self.cancel_when_ready(credential).await;
            assert_eq!(principal, credential.principal(emulator), "{credential:?}");
        }
    }

    /// Waits for a valid token, then cancels an operation. Returns the principal of the upstream call.
    pub(crate) async fn cancel_when_ready(&mut self, credential: TestCredential) -> String {
        let name = credential.name();
        self.wait_for_state(&name, |line| line["state"] == "valid").await;
        self.cancel(&name).await.unwrap_or_else(|status| panic!("{name}: {status:?}"))
    }

    /// Changes every credential file without a change of its meaning.
    pub(crate) fn touch_files(&self) {
        for kind in Kind::ALL {
            let path = self.dir.path().join(format!("{}.json", kind.name()));
            let content = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, content + "\n").unwrap();
        }
    }

    /// The number of log lines that contain all `parts`.
    pub(crate) fn log_lines(&self, parts: &[&str]) -> usize {
        let log = self.process.stderr.text();
        log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    /// Ends the service, and searches all its output for every secret of the emulator and for `others`.
    pub(crate) async fn end(mut self, others: &[(&'static str, &str)]) -> Ended {
        self.credential_states().await;
        for page in ["metrics", "statusz", "livez", "none"] {
            // Some of these pages do not exist. The error responses are searched too.
            let url = format!("http://{}/{page}", self.admin);
            self.responses.push(self.admin_client.get(&url).send().await.unwrap().text().await.unwrap());
        }
        self.process.signal(SIGTERM);
        let Self { emulator, process, responses, .. } = self;
        let ended = process.end().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("token fetched"), "the log has no fetched token");
        let outputs = responses.iter().map(String::as_str).chain([&*ended.stdout, &*ended.stderr]);
        assert_no_secrets(emulator, others, outputs);
        ended
    }
}

/// A client for the pages of the admin port.
fn admin_client() -> reqwest::Client {
    // This fails when another test has installed the provider already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Fails when one of the texts contains a secret.
pub(crate) fn assert_no_secrets<'t>(
    emulator: &Emulator,
    others: &[(&'static str, &str)],
    texts: impl IntoIterator<Item = &'t str>,
) {
    let secrets = emulator.control().secrets();
    let known = secrets.iter().map(|(name, secret)| (*name, secret.as_str()));
    let secrets = Secrets::new(known.chain(others.iter().copied()));
    // Many pages are equal, and each is searched once.
    let texts: std::collections::BTreeSet<_> = texts.into_iter().collect();
    let found: Vec<_> = texts.into_iter().flat_map(|text| secrets.found_in(text)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// The number of requests to an endpoint. For the metadata server, only the requests for tokens.
pub(crate) fn request_count(emulator: &Emulator, endpoint: Endpoint) -> u64 {
    let queries = emulator.control().queries();
    match endpoint {
        Endpoint::Token => queries.token,
        Endpoint::Sts => queries.sts,
        Endpoint::SubjectToken => queries.subject_token,
        Endpoint::Metadata => queries.metadata_token,
        Endpoint::Iam => queries.iam,
    }
}

/// Whether a status is UNAVAILABLE with `CREDENTIAL_UNAVAILABLE` and a `RetryInfo`.
pub(crate) fn is_retryable(status: &Status) -> bool {
    let details = String::from_utf8_lossy(status.details()).into_owned();
    status.code() == Code::Unavailable
        && ["CREDENTIAL_UNAVAILABLE", "google.rpc.RetryInfo"].iter().all(|part| details.contains(part))
}

/// The first TCP address in a log line with `message`, in text or JSON.
fn listening(log: &str, message: &str) -> Option<SocketAddr> {
    let (text, json) = (format!(": {message} address="), format!(r#""message":"{message}","address":""#));
    log.lines().find_map(|line| {
        let (_, address) = line.split_once(&text).or_else(|| line.split_once(&json))?;
        address.split(['"', ' ']).next()?.parse().ok()
    })
}
