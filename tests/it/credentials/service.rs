//! `countermand serve` with credentials of the emulator's, all of whose words are searched for secrets.

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
    credentials::{holder::Holder, search::Secrets},
    support::process::{Ended, LIMIT, Process, countermand},
};

/// Every line that can be had, of every library by its name too.
pub(crate) const EVERYTHING: &str = "trace,countermand=trace,yup_oauth2=trace,hyper=trace,hyper_util=trace,\
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
    operator: reqwest::Client,
    pub(crate) channel: Channel,
    /// What callers and operators were told.
    told: Vec<String>,
    pub(crate) room: TempDir,
}

/// Writes every kind's file, and a configuration `c.toml` for `holders`.
pub(crate) fn furnish(room: &Path, emulator: &Emulator, holders: &[Holder]) {
    for kind in Kind::ALL {
        emulator.credential_file(kind).write(&room.join(format!("{}.json", kind.name()))).unwrap();
    }
    let url = emulator.url();
    let mut config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [upstream]\nurl = \"{url}\"\niam_credentials_url = \"{url}\"\ntimeout = \"5s\"\n"
    );
    config.extend(holders.iter().map(|holder| holder.section(emulator)));
    std::fs::write(room.join("c.toml"), config).unwrap();
}

impl<'a> Service<'a> {
    /// Starts one with these credentials, and waits for it to listen.
    pub(crate) async fn start(emulator: &'a Emulator, holders: &[Holder]) -> Self {
        Self::start_with(emulator, holders, |_, _| {}).await
    }

    /// Likewise, with more in its environment or in its directory.
    pub(crate) async fn start_with(
        emulator: &'a Emulator,
        holders: &[Holder],
        adjust: impl FnOnce(&mut Command, &Path),
    ) -> Self {
        let room = tempfile::tempdir().unwrap();
        furnish(room.path(), emulator, holders);
        let mut command = countermand(&["serve", "--config", "c.toml"]);
        command.current_dir(&room).env("RUST_LOG", EVERYTHING);
        command.env("GCE_METADATA_HOST", emulator.metadata_host());
        adjust(&mut command, room.path());
        let process = Process::start(&mut command);
        let address = process.stderr.see(|log| listening(log, "listening")).await;
        let admin = process.stderr.see(|log| listening(log, "listening on the admin port")).await;
        let channel = Address::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { emulator, process, admin, operator: operator(), channel, told: Vec::new(), room }
    }

    /// Cancels a new operation in an enterprise; when it was carried out, the principal who did it.
    pub(crate) async fn cancel(&mut self, enterprise: &str) -> Result<String, Status> {
        let control = self.emulator.control();
        let device = format!("enterprises/{enterprise}/devices/d1");
        let issued = control.issue_command(&device, json!({ "type": "LOCK" })).unwrap();
        let name = issued["name"].as_str().unwrap().to_owned();
        let answer = self.call(Request::new(CancelOperationRequest { name: name.clone() })).await;
        answer.map(|()| {
            assert_eq!(control.operation(&name).unwrap()["error"]["code"], 1, "{name}");
            control.callers().pop().unwrap()
        })
    }

    /// A call, whose answer is searched for secrets in the end.
    pub(crate) async fn call(&mut self, request: Request<CancelOperationRequest>) -> Result<(), Status> {
        let mut client = OperationsClient::new(self.channel.clone());
        let answer = timeout(LIMIT, client.cancel_operation(request)).await.expect("an answer");
        self.told.push(format!("{answer:?}"));
        if let Err(status) = &answer {
            self.told.push(String::from_utf8_lossy(status.details()).into_owned());
        }
        answer.map(|_| ())
    }

    /// What `/readyz` tells of each credential, by JSON; its text is looked at, too.
    pub(crate) async fn standing(&mut self) -> Vec<Value> {
        let url = format!("http://{}/readyz", self.admin);
        let text = self.operator.get(&url).send().await.unwrap().text().await.unwrap();
        let json = self.operator.get(&url).header("accept", "application/json").send().await.unwrap();
        let json = json.text().await.unwrap();
        let page: Value = serde_json::from_str(&json).unwrap();
        self.told.extend([text, json]);
        page["credentials"].as_array().unwrap().clone()
    }

    /// Waits until `/readyz` tells of a credential what is looked for.
    pub(crate) async fn stands(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = std::time::Instant::now() + LIMIT;
        loop {
            let standing = self.standing().await;
            let found = standing.into_iter().find(|line| line["name"] == name).expect("a credential's line");
            if wanted(&found) {
                return found;
            }
            assert!(std::time::Instant::now() < end, "{name} stays {found}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for a cancel to be carried out, and for whom.
    pub(crate) async fn served(&mut self, holder: Holder) -> String {
        let name = holder.name();
        self.stands(&name, |line| line["state"] == "valid").await;
        self.cancel(&name).await.unwrap_or_else(|status| panic!("{name}: {status:?}"))
    }

    /// Changes every credential file, and nothing that it says.
    pub(crate) fn touch_files(&self) {
        for kind in Kind::ALL {
            let path = self.room.path().join(format!("{}.json", kind.name()));
            let content = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, content + "\n").unwrap();
        }
    }

    /// How many log lines there are that have all of `parts`.
    pub(crate) fn logged(&self, parts: &[&str]) -> usize {
        let log = self.process.stderr.text();
        log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    /// Ends it, and searches all that it said for every secret of the emulator's, and `others`.
    pub(crate) async fn end(mut self, others: &[(&'static str, &str)]) -> Ended {
        self.standing().await;
        for page in ["metrics", "statusz", "livez", "none"] {
            // Those that are not there are told so, which is looked at likewise.
            let url = format!("http://{}/{page}", self.admin);
            self.told.push(self.operator.get(&url).send().await.unwrap().text().await.unwrap());
        }
        self.process.signal(SIGTERM);
        let Self { emulator, process, told, .. } = self;
        let ended = process.end().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("token fetched"), "the log has something to search");
        let told = told.iter().map(String::as_str).chain([&*ended.stdout, &*ended.stderr]);
        nothing_in(emulator, others, told);
        ended
    }
}

/// Who reads the pages of the operator's port.
fn operator() -> reqwest::Client {
    // The error says that another test has installed it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Fails when a secret is in one of the texts.
pub(crate) fn nothing_in<'t>(
    emulator: &Emulator,
    others: &[(&'static str, &str)],
    texts: impl IntoIterator<Item = &'t str>,
) {
    let secrets = emulator.control().secrets();
    let known = secrets.iter().map(|(what, secret)| (*what, secret.as_str()));
    let secrets = Secrets::new(known.chain(others.iter().copied()));
    // Pages are told again and again.
    let texts: std::collections::BTreeSet<_> = texts.into_iter().collect();
    let found: Vec<_> = texts.into_iter().flat_map(|text| secrets.found_in(text)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// How many requests an endpoint has had, those for tokens where it is asked for other things too.
pub(crate) fn asked(emulator: &Emulator, endpoint: Endpoint) -> u64 {
    let queries = emulator.control().queries();
    match endpoint {
        Endpoint::Token => queries.token,
        Endpoint::Sts => queries.sts,
        Endpoint::SubjectToken => queries.subject_token,
        Endpoint::Metadata => queries.metadata_token,
        Endpoint::Iam => queries.iam,
    }
}

/// Whether a caller is told to come back: UNAVAILABLE, `CREDENTIAL_UNAVAILABLE`, with a `RetryInfo`.
pub(crate) fn is_to_come_back(status: &Status) -> bool {
    let details = String::from_utf8_lossy(status.details()).into_owned();
    status.code() == Code::Unavailable
        && ["CREDENTIAL_UNAVAILABLE", "google.rpc.RetryInfo"].iter().all(|part| details.contains(part))
}

/// The first TCP address of the log lines that say `message`, in text or JSON.
fn listening(log: &str, message: &str) -> Option<SocketAddr> {
    let (text, json) = (format!(": {message} address="), format!(r#""message":"{message}","address":""#));
    log.lines().find_map(|line| {
        let (_, address) = line.split_once(&text).or_else(|| line.split_once(&json))?;
        address.split(['"', ' ']).next()?.parse().ok()
    })
}
