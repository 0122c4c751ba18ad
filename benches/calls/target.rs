//! The processes that are measured, and the upstream behind them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use rustls::ClientConfig;
use tokio::process::Command;
use tonic_health::pb::{HealthCheckResponse, health_check_response::ServingStatus};

use crate::Fault;
use crate::child::Child;
use crate::configuration::Configuration;
use crate::files::{self, Paths};
use crate::grpc::{Connection, Door};
use crate::pinning::Cores;

/// How long Countermand may take to serve before the benchmark gives up: with many credentials it signs and
/// sends as many token requests first.
const SERVING_LIMIT: Duration = Duration::from_secs(60);

/// How long one look at its health may take.
const HEALTH_DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at a service that does not serve yet: short beside the milliseconds sought.
const POLL: Duration = Duration::from_micros(500);

/// A process that takes calls.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) child: Child,
    /// Where it takes them.
    pub(crate) door: Door,
}

/// Starts the upstream, and writes the credentials that its token endpoint belongs to.
pub(crate) async fn upstream(paths: &Paths) -> Result<Target, Fault> {
    let (child, address) = Child::start_role("upstream", &["upstream"], paths, None).await?;
    files::write_credentials(paths, address.port())?;
    Ok(Target { child, door: Door { address, tls: None } })
}

/// Starts a floor, which errors call `name`, for callers in plaintext or with the TLS given.
pub(crate) async fn relay(
    name: &str,
    paths: &Paths,
    upstream: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    cores: Option<&Cores>,
) -> Result<Target, Fault> {
    let port = upstream.port().to_string();
    let mut arguments = vec!["relay", "--upstream", &port];
    arguments.extend(tls.is_some().then_some("--mutual-tls"));
    let (child, address) = Child::start_role(name, &arguments, paths, cores).await?;
    Ok(Target { child, door: Door { address, tls } })
}

/// Starts `countermand serve`, which errors call `name`, set up as `configuration` says, and tells how long
/// it took until health said SERVING.
///
/// # Errors
///
/// When it ends, or does not serve within [`SERVING_LIMIT`].
pub(crate) async fn countermand(
    name: &str,
    paths: &Paths,
    upstream: SocketAddr,
    configuration: &Configuration,
    cores: Option<&Cores>,
) -> Result<(Target, Duration), Fault> {
    let address = free_address()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_countermand"));
    command
        .args(["serve", "--admin-listen", "off"])
        .args(["--listen", &address.to_string()])
        .arg("--upstream-url")
        .arg(format!("https://localhost:{}", upstream.port()))
        .arg("--upstream-ca")
        .arg(paths.authority())
        .args(&configuration.arguments);
    let start = Instant::now();
    let child = Child::start(name, command, paths, cores)?;
    let mut target = Target { child, door: Door { address, tls: configuration.tls.clone() } };
    loop {
        let fault = match serving(&target.door).await {
            Ok(()) => return Ok((target, start.elapsed())),
            Err(fault) => fault,
        };
        target.child.expect_alive().await?;
        if start.elapsed() > SERVING_LIMIT {
            let text = format!("does not serve after {SERVING_LIMIT:?}: {fault}");
            return Err(target.child.explain(text.into()).await);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Starts Countermand until `times` starts are timed in all, once at least; the last one stays.
///
/// # Errors
///
/// As [`countermand`].
pub(crate) async fn time_starts(
    start: impl AsyncFn() -> Result<(Target, Duration), Fault>,
    times: u32,
    timed: &mut Vec<Duration>,
) -> Result<Target, Fault> {
    loop {
        let (countermand, time) = start().await?;
        timed.push(time);
        if timed.len() >= times as usize {
            return Ok(countermand);
        }
        countermand.child.end().await?;
    }
}

/// Whether gRPC health says SERVING of the whole server (`grpc.health.v1`).
async fn serving(door: &Door) -> Result<(), Fault> {
    expect_serving(&Connection::open(door).await?).await
}

/// Asks gRPC health over a connection that is there.
///
/// # Errors
///
/// When it does not say SERVING.
pub(crate) async fn expect_serving(connection: &Connection) -> Result<(), Fault> {
    let head = connection.head("/grpc.health.v1.Health/Check", HEALTH_DEADLINE)?;
    let answer = connection.call(&head, &[]).await?;
    match HealthCheckResponse::decode(answer)?.status() {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("health says {}", other.as_str_name()).into()),
    }
}

/// A port of the loopback that was free just now, for a program that must be told one.
fn free_address() -> Result<SocketAddr, Fault> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
