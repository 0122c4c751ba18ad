//! `countermand dev`: an emulator and the proxy in one process, with operations to call back.

use std::{
    borrow::Cow,
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use clap::Args;
use countermand_emulator::{ApiError, Emulator, Settings};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{Request, transport::Endpoint};

use super::{exit::Exit, output, signals::Signals};
use crate::{
    app::{App, Config},
    config::Flags,
    credentials::Machine,
    proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient},
    serving::Serving,
    systemd::PassedSockets,
    telemetry,
};

/// The port that the client commands call by default.
const DEFAULT_PORT: u16 = 50051;

/// The timeout of the first token from the emulator.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The devices and types of the commands that stay pending.
const SEEDS: [(&str, &str); 4] = [
    ("enterprises/LC01/devices/d1", "LOCK"),
    ("enterprises/LC01/devices/d2", "REBOOT"),
    ("enterprises/LC01/devices/d2", "RESET_PASSWORD"),
    ("enterprises/LC01/devices/d3", "LOCK"),
];

/// Start an emulated Android Management API with the proxy in front of it, and call a wipe back
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// End after the demonstration
    #[arg(long)]
    once: bool,
}

/// Shows a wipe that is called back, then serves until SIGINT or SIGTERM.
pub(crate) async fn run(args: DevArgs) -> Exit {
    let DevArgs { once } = args;
    let _log = match telemetry::log::start(telemetry::settings::LogFormat::Text, "warn") {
        Ok(log) => log,
        Err(error) => {
            output::complain(&error);
            return Exit::Config;
        }
    };
    match dev(once).await {
        Ok(exit) => exit,
        Err(error) => {
            output::complain(&error.to_string());
            Exit::Failed
        }
    }
}

async fn dev(once: bool) -> Result<Exit, Box<dyn Error + Send + Sync>> {
    let mut signals = Signals::install()?;
    let settings = Settings { pick_up: None, ..Settings::default() };
    let emulator = Emulator::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), settings).await?;
    for (device, kind) in SEEDS {
        issue(&emulator, device, kind)?;
    }
    let wipe = issue(&emulator, "enterprises/LC01/devices/d1", "WIPE")?;
    let files = tempfile::tempdir()?;
    // The audit log goes to a file, because standard output is for the user.
    let audit_log = files.path().join("audit.jsonl");
    let app = start_proxy(&emulator, &files.path().join("credentials.json"), &audit_log).await?;
    let proxy = app.addresses().first().ok_or("the proxy has no address")?.to_string();
    let mut serving = app.serving();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async { drop(stopped.await) }, std::future::pending()));
    let ready = serving.wait_for(|serving| *serving == Serving::Ready);
    drop(tokio::time::timeout(START_TIMEOUT, ready).await??);

    let mut printed = print(&format!(
        "An emulated Android Management API, and Countermand in front of it:\n  emulator  {}\n  proxy     {proxy}\n  \
         audit log {}\n\nA device is being wiped by mistake. Before:\n{}\nCancelOperation through the proxy:",
        emulator.url(),
        audit_log.display(),
        indented(&emulator, &wipe),
    ));
    let channel = Endpoint::from_shared(format!("http://{proxy}"))?.connect().await?;
    let request = Request::new(CancelOperationRequest { name: wipe.clone() });
    OperationsClient::new(channel).cancel_operation(request).await?;
    if printed == Exit::Ok {
        printed = print(&format!("  OK\nAfter:\n{}", indented(&emulator, &wipe)));
    }
    if !once {
        if printed == Exit::Ok {
            print(&suggestions(&emulator, &proxy));
        }
        signals.next().await;
    }
    // No load balancer depends on the drain, so the proxy stops at once.
    drop(stop);
    running.abort();
    emulator.shutdown().await?;
    // A closed standard output does not stop the service, but the demonstration is only its output.
    Ok(if once { printed } else { Exit::Ok })
}

async fn start_proxy(
    emulator: &Emulator,
    credentials: &Path,
    audit_log: &Path,
) -> Result<App, Box<dyn Error + Send + Sync>> {
    emulator.credentials().write(credentials)?;
    let flags = Flags::default()
        .with("--listen", proxy_address().await.to_string())
        .with("--admin-listen", "off")
        .with("--credentials", credentials)
        .with("--upstream-url", emulator.url());
    let variables = [("COUNTERMAND_AUDIT_FILE".into(), audit_log.into())];
    let config = Config::load(flags, variables.into_iter().collect(), Machine::Elsewhere)?;
    Ok(App::start(config, PassedSockets::default()).await?)
}

/// Issues a command and returns the operation's name.
fn issue(emulator: &Emulator, device: &str, kind: &str) -> Result<String, ApiError> {
    let mut command = json!({"type": kind, "duration": "86400s"});
    if kind == "RESET_PASSWORD" {
        command["newPassword"] = Value::from("emulated");
    }
    let operation = emulator.control().issue_command(device, command)?;
    Ok(operation["name"].as_str().unwrap_or_default().to_owned())
}

/// The default port if it is free, so that the printed commands are short, otherwise any free port.
async fn proxy_address() -> SocketAddr {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
    let free = TcpListener::bind(default).await.is_ok();
    if free { default } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
}

/// The JSON of an operation in the Android Management API, indented.
fn indented(emulator: &Emulator, name: &str) -> String {
    let operation = emulator.control().operation(name).unwrap_or_default();
    let lines: Vec<_> = format!("{operation:#}").lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

/// The pending operations, and a command to paste for each.
fn suggestions(emulator: &Emulator, proxy: &str) -> String {
    let pending = emulator.control().pending();
    let mut lines = vec![String::new(), "Pending operations:".to_owned()];
    lines.extend(pending.iter().map(|name| format!("  {name}")));
    lines.extend([String::new(), "To call one back, paste a line into another terminal:".to_owned()]);
    let program = std::env::args().next().unwrap_or_else(|| "countermand".to_owned());
    let program = quoted(&program);
    let server = if proxy.ends_with(&format!(":{DEFAULT_PORT}")) {
        String::new()
    } else {
        format!(" --server {proxy}")
    };
    for (nth, name) in pending.iter().enumerate() {
        lines.push(if nth % 2 == 0 {
            format!("  {program} cancel {name}{server}")
        } else {
            format!(
                "  grpcurl -plaintext -d '{{\"name\": \"{name}\"}}' {proxy} \
                 google.longrunning.Operations/CancelOperation"
            )
        });
    }
    lines.extend([String::new(), "Ctrl-C ends it.".to_owned()]);
    lines.join("\n")
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

fn print(text: &str) -> Exit {
    output::all_to_stdout(&text.lines().map(str::to_owned).collect::<Vec<_>>())
}
