//! `countermand serve`: the service.

use std::{error::Error, path::PathBuf};

use clap::Args;
use tokio::sync::oneshot;

use super::{
    exit::Exit,
    output,
    signals::{self, Signals},
};
use crate::{
    app::App,
    config::{Config, Environment, Faults, LogFormat, Overrides},
    server::Drained,
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  countermand serve --credentials key.json
  countermand serve --config /etc/countermand.toml --listen unix:/run/countermand.sock
  COUNTERMAND_LISTEN=127.0.0.1:50051,unix:/run/countermand.sock countermand serve --config c.toml

A flag wins over its COUNTERMAND_… variable, the variable over the file, the file over the default.
COUNTERMAND_UPSTREAM_TIMEOUT, COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL, COUNTERMAND_DRAIN_TIMEOUT,
COUNTERMAND_SERVER_TLS_… (CERTIFICATE, PRIVATE_KEY, CLIENT_CA), COUNTERMAND_UNIX_SOCKET_… (MODE, OWNER),
COUNTERMAND_POLLING_… (MIN_INTERVAL, MAX_INTERVAL, MAX_WAIT, CACHE_ENTRIES, CACHE_MAX_AGE),
COUNTERMAND_CALLERS_… (FORWARDED_CLIENT_CERT, LINKERD_CLIENT_ID, MESH_PROXIES), COUNTERMAND_CALLERS_JWT_… (ISSUER, AUDIENCE, JWKS, ALGORITHMS,
JWKS_CA_CERTIFICATES, JWKS_TOKEN_FILE), COUNTERMAND_AUDIT_… (FILE, ON_FAILURE) and those of the limits of
[server], such as COUNTERMAND_MAX_CONCURRENT_CALLS, are variables without a flag. The audit log goes to
standard output unless it is given a file, which SIGHUP reopens. RUST_LOG filters the log.
All faults of the configuration are printed at once, and the exit code is then 78.";

/// Serve google.longrunning.Operations until SIGTERM or SIGINT
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// The configuration file, TOML [env: COUNTERMAND_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Serve gRPC here: HOST:PORT or unix:/PATH; may be repeated [env: COUNTERMAND_LISTEN, separated by
    /// commas] [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,

    /// Serve /livez and /readyz here, or "off" [env: COUNTERMAND_ADMIN_LISTEN] [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,

    /// A Google credential file for all enterprises, in place of every [[credentials]] of the configuration
    /// [env: COUNTERMAND_CREDENTIALS] [default: those, else application default credentials]
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,

    /// Where the Android Management API is [env: COUNTERMAND_UPSTREAM_URL]
    /// [default: https://androidmanagement.googleapis.com]
    #[arg(long, value_name = "URL")]
    upstream_url: Option<String>,

    /// CA certificates (PEM) to trust beside the public ones [env: COUNTERMAND_UPSTREAM_CA]
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,

    /// The Cedar policy that says who may do what [env: COUNTERMAND_POLICY] [default: that of the
    /// configuration, else callers on loopback and unix sockets may do all]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// How log lines look [env: COUNTERMAND_LOG_FORMAT] [default: text]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,

    /// Listen beyond loopback without TLS or a policy: for a mesh that encrypts and authorises
    /// [env: COUNTERMAND_ALLOW_UNAUTHENTICATED]
    #[arg(long)]
    allow_unauthenticated: bool,
}

impl From<ServeArgs> for Overrides {
    fn from(args: ServeArgs) -> Self {
        let ServeArgs {
            config,
            listen,
            admin_listen,
            credentials,
            upstream_url,
            upstream_ca,
            policy,
            log_format,
            allow_unauthenticated,
        } = args;
        Self {
            config,
            listen,
            admin_listen,
            credentials,
            upstream_url,
            upstream_ca,
            policy,
            log_format,
            allow_unauthenticated,
        }
    }
}

/// Serves until a signal ends it.
pub(crate) async fn run(args: ServeArgs) -> Exit {
    let config = match Config::load(args.into(), Environment::of_process()) {
        Ok(config) => config,
        Err(faults) => {
            report(&faults);
            return Exit::Config;
        }
    };
    // Held to the end: it writes the last lines.
    let _log = match telemetry::start(config.log_format, "info") {
        Ok(guard) => guard,
        Err(fault) => {
            output::complain(&fault);
            return Exit::Config;
        }
    };
    for variable in &config.unknown_variables {
        tracing::warn!(variable, "ignored an unknown environment variable");
    }
    match serve(&config).await {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!(%error, "cannot serve");
            Exit::Failed
        }
    }
}

async fn serve(config: &Config) -> Result<Exit, Box<dyn Error + Send + Sync>> {
    let mut signals = Signals::install()?;
    let app = App::start(config).await?;
    tokio::spawn(signals::reopen(app.audit(), signals::rotation()?));
    for address in app.addresses() {
        tracing::info!(%address, "listening");
    }
    if let Some(address) = app.admin_address() {
        tracing::info!(%address, "listening for the operator");
    }
    let ((stop, stopped), (cut, second)) = (oneshot::channel(), oneshot::channel());
    tokio::spawn(async move {
        signals.next().await;
        // The receivers live as long as the process serves.
        let _ = stop.send(());
        signals.next().await;
        tracing::warn!("asked a second time: ending at once");
        let _ = cut.send(());
    });
    let drained = app.run(async { drop(stopped.await) }, async { drop(second.await) }).await?;
    match drained {
        Drained::Whole => tracing::info!("drained"),
        Drained::Cut { calls } => {
            tracing::warn!(calls, "the drain timeout passed: ending with calls in flight")
        }
        Drained::Stopped { calls } => {
            tracing::warn!(calls, "ended with calls in flight");
            return Ok(Exit::Failed);
        }
    }
    Ok(Exit::Ok)
}

/// Prints the faults to standard error: a line that counts them, then one line each.
pub(crate) fn report(faults: &Faults) {
    let count = match faults.len() {
        1 => "1 fault".to_owned(),
        more => format!("{more} faults"),
    };
    match faults.file() {
        Some(file) => output::complain(&format!("{count} in the configuration ({}):", file.display())),
        None => output::complain(&format!("{count} in the configuration:")),
    }
    for fault in faults.iter() {
        output::to_stderr(&fault.to_string());
    }
}

#[cfg(test)]
mod tests;
