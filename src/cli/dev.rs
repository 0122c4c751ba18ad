//! `countermand dev`: everything at once, to look at.

use std::{
    borrow::Cow,
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::Args;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{Request, transport::Endpoint};

use super::{exit::Exit, output, signals::Signals};
use crate::{
    app::Development,
    emulator::Emulator,
    proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient},
    serving::Serving,
    telemetry,
};

/// The port that the client commands call when they are not told another.
const USUAL_PORT: u16 = 50051;

/// Longer than a token from the emulator takes on any machine.
const START_TIME: Duration = Duration::from_secs(30);

/// Start an emulated Android Management API with the proxy in front of it, and call a wipe back
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// End after the demonstration
    #[arg(long)]
    once: bool,
}

/// Shows a wipe being called back, then stays up for more.
pub(crate) async fn run(args: DevArgs) -> Exit {
    let DevArgs { once } = args;
    let _log = match telemetry::start(telemetry::settings::LogFormat::Text, "warn") {
        Ok(guard) => guard,
        Err(fault) => {
            output::complain(&fault);
            return Exit::Config;
        }
    };
    match dev(once).await {
        Ok(()) => Exit::Ok,
        Err(error) => {
            output::complain(&error.to_string());
            Exit::Failed
        }
    }
}

async fn dev(once: bool) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut signals = Signals::install()?;
    let development = Development::start(proxy_address().await).await?;
    let wiped = development.wipe()?;
    let Development { emulator, app, audit_log, files: _files } = development;
    let proxy = app.addresses().first().ok_or("the proxy has no address")?.to_string();
    let mut serving = app.serving();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async { drop(stopped.await) }, std::future::pending()));
    let ready = serving.wait_for(|serving| *serving == Serving::Ready);
    drop(tokio::time::timeout(START_TIME, ready).await??);

    say(&[
        "An emulated Android Management API, and Countermand in front of it:",
        &format!("  emulator  {}", emulator.url()),
        &format!("  proxy     {proxy}"),
        &format!("  audit log {}", audit_log.display()),
        "",
        "A device is being wiped by mistake. Before:",
        &shown(&emulator, &wiped),
        "CancelOperation through the proxy:",
    ]);
    let channel = Endpoint::from_shared(format!("http://{proxy}"))?.connect().await?;
    let request = Request::new(CancelOperationRequest { name: wiped.clone() });
    OperationsClient::new(channel).cancel_operation(request).await?;
    say(&["  OK", "After:", &shown(&emulator, &wiped)]);

    if !once {
        say(&offer(&emulator, &proxy).iter().map(String::as_str).collect::<Vec<_>>());
        signals.next().await;
    }
    // Nobody balances load here, so there is nobody to wait for: the process's end closes what is open.
    drop(stop);
    running.abort();
    emulator.shutdown().await?;
    Ok(())
}

/// The usual port when it is free, so that the lines to paste are short.
async fn proxy_address() -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, USUAL_PORT));
    let free = TcpListener::bind(usual).await.is_ok();
    if free { usual } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
}

/// An operation as the Android Management API has it, indented.
fn shown(emulator: &Emulator, name: &str) -> String {
    let operation = emulator.control().operation(name).unwrap_or_default();
    format!("{operation:#}")
        .lines()
        .map(|line| format!("  {line}\n"))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// What is there to call back, and the lines that do it: each for an operation of its own, so that every
/// one of them works.
fn offer(emulator: &Emulator, proxy: &str) -> Vec<String> {
    let pending = emulator.control().pending();
    let mut lines = vec![String::new(), "Pending operations:".to_owned()];
    lines.extend(pending.iter().map(|name| format!("  {name}")));
    lines.extend([String::new(), "To call one back, paste a line into another terminal:".to_owned()]);
    let program = std::env::args().next().unwrap_or_else(|| "countermand".to_owned());
    let program = quoted(&program);
    let server =
        if proxy.ends_with(&format!(":{USUAL_PORT}")) { String::new() } else { format!(" --server {proxy}") };
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
    lines
}

/// A word as a shell takes it.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

fn say(lines: &[&str]) {
    for line in lines.iter().flat_map(|line| line.split('\n')) {
        // Nobody reads any more: what was asked for is done all the same.
        let _ = output::to_stdout(line);
    }
}
