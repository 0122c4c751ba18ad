//! The processes that are measured, their configurations, and the upstream behind them.

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

use crate::files::{self, CLIENT_ID, Paths};
use crate::grpc::{Connection, Endpoint};
use crate::process::{Cores, Process};
use crate::workload::{self, CREDENTIALS};
use crate::{Error, operation, tls};

/// How long Countermand may take to serve. With many credentials it signs and sends as many token requests
/// first.
pub(crate) const SERVING_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one health check may take.
const HEALTH_DEADLINE: Duration = Duration::from_secs(10);

/// Between two health checks of a service that does not serve yet: short beside a start of some milliseconds.
pub(crate) const POLL: Duration = Duration::from_micros(500);

/// The program of this tree.
pub(crate) const COUNTERMAND: &str = env!("CARGO_BIN_EXE_countermand");

/// A process that serves calls.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) process: Process,
    pub(crate) endpoint: Endpoint,
}

/// Starts the upstream, and writes the credentials, which name its token endpoint.
pub(crate) async fn upstream(paths: &Paths) -> Result<Target, Error> {
    let (process, address) = Process::start_role("upstream", &["upstream"], paths, None).await?;
    files::write_credentials(paths, address.port())?;
    Ok(Target { process, endpoint: Endpoint { address, tls: None } })
}

/// Starts a relay, named `name` in errors, for callers in plaintext or with `tls`.
pub(crate) async fn relay(
    name: &str,
    paths: &Paths,
    upstream: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    cores: Option<&Cores>,
) -> Result<Target, Error> {
    let port = upstream.port().to_string();
    let mut arguments = vec!["relay", "--upstream", &port];
    arguments.extend(tls.is_some().then_some("--mutual-tls"));
    let (process, address) = Process::start_role(name, &arguments, paths, cores).await?;
    Ok(Target { process, endpoint: Endpoint { address, tls } })
}

/// Starts `countermand serve` of `program`, named `name` in errors, with `configuration`. Returns the time until
/// the health check returned SERVING.
///
/// # Errors
///
/// When it ends, or does not serve within [`SERVING_TIMEOUT`].
pub(crate) async fn countermand(
    name: &str,
    program: &Path,
    paths: &Paths,
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
        .arg(paths.authority())
        .args(&configuration.arguments);
    let start = Instant::now();
    let process = Process::start(name, command, paths, cores)?;
    let mut target = Target { process, endpoint: Endpoint { address, tls: configuration.tls.clone() } };
    loop {
        let error = match serving(&target.endpoint).await {
            Ok(()) => return Ok((target, start.elapsed())),
            Err(error) => error,
        };
        target.process.expect_alive().await?;
        if start.elapsed() > SERVING_TIMEOUT {
            let text = format!("does not serve after {SERVING_TIMEOUT:?}: {error}");
            return Err(target.process.explain(text.into()).await);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Starts Countermand until `timed` has `times` starts, and at least once. The last process is returned.
///
/// # Errors
///
/// As [`countermand`].
pub(crate) async fn time_starts(
    start: impl AsyncFn() -> Result<(Target, Duration), Error>,
    times: u32,
    timed: &mut Vec<Duration>,
) -> Result<Target, Error> {
    loop {
        let (countermand, time) = start().await?;
        timed.push(time);
        if timed.len() >= times as usize {
            return Ok(countermand);
        }
        countermand.process.end().await?;
    }
}

/// Checks the health of the whole server (`grpc.health.v1`).
async fn serving(endpoint: &Endpoint) -> Result<(), Error> {
    expect_serving(&Connection::open(endpoint).await?).await
}

/// Checks the health over `connection`.
///
/// # Errors
///
/// When the status is not SERVING.
pub(crate) async fn expect_serving(connection: &Connection) -> Result<(), Error> {
    let head = connection.head("/grpc.health.v1.Health/Check", HEALTH_DEADLINE)?;
    let answer = connection.call(&head, &[]).await?;
    match HealthCheckResponse::decode(answer)?.status() {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("the health status is {}", other.as_str_name()).into()),
    }
}

/// A free port of the loopback, for a program that cannot choose one itself.
pub(crate) fn free_address() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// How Countermand is started, and the TLS of its callers.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The options of `countermand serve` beyond those of every row.
    pub(crate) arguments: Vec<OsString>,
    /// `None` for plaintext.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Configuration {
    /// Plaintext, one credential, no policy, as in a sidecar.
    pub(crate) fn plain(paths: &Paths) -> Self {
        Self { arguments: vec!["--credentials".into(), paths.credentials().into()], tls: None }
    }

    /// As [`Self::plain`], with a configuration file.
    pub(crate) fn with_settings(paths: &Paths, settings: &Path) -> Self {
        let mut plain = Self::plain(paths);
        plain.arguments.extend(["--config".into(), settings.into()]);
        plain
    }

    /// Plaintext and no policy, with [`CREDENTIALS`] credentials. Each serves one enterprise by its id and others
    /// by a prefix.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(crate) fn many_credentials(paths: &Paths) -> Result<Self, Error> {
        let mut settings = String::new();
        for number in 0..CREDENTIALS {
            let account = workload::account(number);
            let file = paths.credentials_of(&account);
            let enterprises = format!(r#"["{account}.main", "{account}-*"]"#);
            write!(
                settings,
                "[[credentials]]\nname = \"{account}\"\nfile = {file:?}\nenterprises = {enterprises}\n"
            )?;
        }
        let file = paths.directory().join("many-credentials.toml");
        fs::write(&file, settings)?;
        Ok(Self { arguments: vec!["--config".into(), file.into()], tls: None })
    }

    /// Mutual TLS, a policy that names the caller of the certificate, and an audit log in a file.
    ///
    /// # Errors
    ///
    /// When a file cannot be written or read.
    pub(crate) fn everything_on(paths: &Paths) -> Result<Self, Error> {
        let (policy, audit) = (paths.directory().join("policy.cedar"), paths.directory().join("audit.jsonl"));
        fs::write(&policy, policies())?;
        let (certificate, key, authority) = (paths.certificate(), paths.private_key(), paths.authority());
        let settings = format!(
            "[server.tls]\ncertificate = {certificate:?}\nprivate_key = {key:?}\nclient_ca = {authority:?}\n\
             [policy]\nfile = {policy:?}\n[audit]\nfile = {audit:?}\n"
        );
        let file = paths.directory().join("everything-on.toml");
        fs::write(&file, settings)?;
        let mut everything = Self::with_settings(paths, &file);
        everything.tls = Some(tls::client_with_certificate(paths)?);
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
