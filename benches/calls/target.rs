//! The measured processes, their configurations, and their upstream.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use rustls::ClientConfig;
use tokio::process::Command;
use tonic_health::pb::{HealthCheckResponse, health_check_response::ServingStatus};

use crate::files::{CLIENT_ID, Files};
use crate::grpc::{Connection, Endpoint};
use crate::process::{Cores, Process};
use crate::{CREDENTIALS, Error, account, operation};

/// The timeout until Countermand serves. It sends one token request per credential first.
pub(crate) const SERVING_TIMEOUT: Duration = Duration::from_secs(60);

/// The deadline of a health check.
const HEALTH_DEADLINE: Duration = Duration::from_secs(10);

/// The interval between two health checks, which is short compared with a start of some milliseconds.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// The program built from this source.
pub(crate) const COUNTERMAND: &str = env!("CARGO_BIN_EXE_countermand");

/// A running process that serves calls.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) process: Process,
    pub(crate) endpoint: Endpoint,
}

/// Starts the upstream, and writes the credentials with the URL of its token endpoint.
pub(crate) async fn upstream(files: &Files) -> Result<Target, Error> {
    let (process, address) = Process::start_role("upstream", &["upstream"], files, None).await?;
    files.write_credentials(address.port())?;
    Ok(Target { process, endpoint: Endpoint { address, tls: None, socket: None } })
}

/// Starts a relay for callers in plaintext or with `tls`. Errors contain `workload`.
pub(crate) async fn relay(
    workload: &str,
    files: &Files,
    upstream: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    cores: Option<&Cores>,
) -> Result<Target, Error> {
    let port = upstream.port().to_string();
    let mut arguments = vec!["relay", "--upstream", &port];
    arguments.extend(tls.is_some().then_some("--mutual-tls"));
    let (process, address) =
        Process::start_role(&format!("relay {workload}"), &arguments, files, cores).await?;
    Ok(Target { process, endpoint: Endpoint { address, tls, socket: None } })
}

/// Starts `countermand serve` of `program` with `configuration`. Errors contain `name`. Returns the time until the
/// health check returned SERVING.
pub(crate) async fn countermand(
    name: &str,
    program: &Path,
    files: &Files,
    upstream: SocketAddr,
    configuration: &Configuration,
    cores: Option<&Cores>,
) -> Result<(Target, Duration), Error> {
    let address = free_address()?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--admin-listen", "off"])
        .args(["--listen", &address.to_string()])
        .arg("--upstream-url")
        .arg(format!("https://localhost:{}", upstream.port()))
        .arg("--upstream-ca")
        .arg(files.authority())
        .args(&configuration.arguments);
    let socket = configuration.has_socket.then(|| files.directory.join(format!("{}.sock", address.port())));
    if let Some(socket) = &socket {
        command.arg("--listen").arg(format!("unix:{}", socket.display()));
    }
    if configuration.is_traced {
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://localhost:{}", upstream.port()))
            .env("OTEL_EXPORTER_OTLP_CERTIFICATE", files.authority())
            .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
            .env("OTEL_TRACES_SAMPLER_ARG", "0.01");
    }
    let start = Instant::now();
    let process = Process::start(name, command, files, cores)?;
    let mut target =
        Target { process, endpoint: Endpoint { address, tls: configuration.tls.clone(), socket } };
    loop {
        let error = match serving(&target.endpoint).await {
            Ok(()) => return Ok((target, start.elapsed())),
            Err(error) => error,
        };
        target.process.expect_running().await?;
        if start.elapsed() > SERVING_TIMEOUT {
            let text = format!("does not serve after {SERVING_TIMEOUT:?}: {error}");
            return Err(target.process.explain(text.into()).await);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Checks the health of the whole server (`grpc.health.v1`).
async fn serving(endpoint: &Endpoint) -> Result<(), Error> {
    expect_serving(&Connection::open(endpoint).await?).await
}

/// Checks the health over `connection`.
pub(crate) async fn expect_serving(connection: &Connection) -> Result<(), Error> {
    let head = connection.head("/grpc.health.v1.Health/Check", HEALTH_DEADLINE)?;
    let message = connection.begin(&head, &[]).await?.message().await?;
    match HealthCheckResponse::decode(message)?.status() {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("the health status is {}", other.as_str_name()).into()),
    }
}

/// A free loopback port, for a program that cannot choose one.
pub(crate) fn free_address() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The options of Countermand, and the TLS of its callers.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The options of `countermand serve` beyond those of every row.
    pub(crate) arguments: Vec<OsString>,
    /// `None` for plaintext.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Whether callers use a unix socket.
    pub(crate) has_socket: bool,
    /// Whether one call in a hundred is traced. The upstream is the collector.
    pub(crate) is_traced: bool,
}

impl Configuration {
    /// Plaintext, one credential and no policy, as in a sidecar.
    pub(crate) fn plain(files: &Files) -> Self {
        Self {
            arguments: vec!["--credentials".into(), files.credentials(operation::ENTERPRISE).into()],
            tls: None,
            has_socket: false,
            is_traced: false,
        }
    }

    /// [`Self::plain`] with a unix socket.
    pub(crate) fn unix_socket(files: &Files) -> Self {
        Self { has_socket: true, ..Self::plain(files) }
    }

    /// [`Self::plain`] with a configuration file.
    pub(crate) fn with_settings(files: &Files, settings: &Path) -> Self {
        let mut plain = Self::plain(files);
        plain.arguments.extend(["--config".into(), settings.into()]);
        plain
    }

    /// Plaintext, no policy, and [`CREDENTIALS`] credentials. Each credential serves one enterprise by its id and
    /// others by a prefix.
    pub(crate) fn many_credentials(files: &Files) -> Result<Self, Error> {
        let mut settings = String::new();
        for number in 0..CREDENTIALS {
            let account = account(number);
            let file = files.credentials(&account);
            let enterprises = format!(r#"["{account}.main", "{account}-*"]"#);
            write!(
                settings,
                "[[credentials]]\nname = \"{account}\"\nfile = {file:?}\nenterprises = {enterprises}\n"
            )?;
        }
        let file = files.directory.join("many-credentials.toml");
        fs::write(&file, settings)?;
        Ok(Self { arguments: vec!["--config".into(), file.into()], ..Self::plain(files) })
    }

    /// [`Self::everything_on`] with traces.
    pub(crate) fn traced(files: &Files) -> Result<Self, Error> {
        Ok(Self { is_traced: true, ..Self::with_everything(files, "traced")? })
    }

    /// [`Self::plain`] with a quota that is never used up. `store` is the Valkey that shares it.
    pub(crate) fn paced(files: &Files, store: Option<SocketAddr>) -> Result<Self, Error> {
        let name = if store.is_some() { "paced-by-all.toml" } else { "paced.toml" };
        let mut settings = String::from("[[quota]]\nlimit = 100000000\n");
        if let Some(store) = store {
            write!(settings, "[quota_shared]\nurl = \"redis://{store}\"\nreplicas = 1\n")?;
        }
        let file = files.directory.join(name);
        fs::write(&file, settings)?;
        Ok(Self::with_settings(files, &file))
    }

    /// Mutual TLS, a policy that names the caller of the certificate, and an audit log in a file.
    pub(crate) fn everything_on(files: &Files) -> Result<Self, Error> {
        Self::with_everything(files, "everything-on")
    }

    /// `name` is that of the files. Each process needs an audit log of its own.
    fn with_everything(files: &Files, name: &str) -> Result<Self, Error> {
        let file_named = |extension| files.directory.join(name).with_extension(extension);
        let (policy, audit) = (file_named("cedar"), file_named("jsonl"));
        fs::write(&policy, policies())?;
        let (certificate, key) = (files.certificate("server"), files.private_key("server"));
        let authority = files.authority();
        let settings = format!(
            "[server.tls]\ncertificate = {certificate:?}\nprivate_key = {key:?}\nclient_ca = {authority:?}\n\
             [policy]\nfile = {policy:?}\n[audit]\nfile = {audit:?}\n"
        );
        let file = file_named("toml");
        fs::write(&file, settings)?;
        let mut everything = Self::with_settings(files, &file);
        everything.tls = Some(files.client(true)?);
        Ok(everything)
    }
}

/// The policy of a small company: the two examples of the documentation, a `forbid`, the rules of eight more
/// callers, and the rule that permits the calls of the benchmark.
fn policies() -> String {
    let mut policies = format!(
        r#"permit (principal == Caller::"{CLIENT_ID}", action, resource in Enterprise::"LC01");
permit (principal, action in [Action::"get", Action::"list", Action::"wait"], resource in Enterprise::"LC01")
  when {{ principal has namespace && principal.namespace == "mdm" }};
forbid (principal, action == Action::"cancel", resource)
  when {{ principal.proof == "none" }};
"#
    );
    for number in 2..10 {
        policies.push_str(&format!(
            "permit (principal == Caller::\"dns:console-{number}.corp.example\", action, \
             resource in Enterprise::\"LC0{number}\");\n"
        ));
    }
    policies
        + &format!(
            "permit (principal == Caller::\"{CLIENT_ID}\", action == Action::\"cancel\", \
        resource in Enterprise::\"{}\");\n",
            operation::ENTERPRISE
        )
}
