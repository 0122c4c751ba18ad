//! `countermand serve`: the service.

use std::error::Error;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use tokio::{signal::unix::Signal, sync::oneshot};

use super::{
    exit::Exit,
    output,
    signals::{self, Signals},
};
use crate::{
    app::{App, Config, Reloaded, Reloader, config::all_settings},
    audit::Audit,
    config::{ConfigErrors, Flags, Variables},
    credentials::Machine,
    http_client::IgnoredVariable,
    server::Drained,
    systemd::{self, PassedSockets},
    telemetry::{self, log::LogLevels, settings::LogFormat},
};

const EXAMPLES: &str = "\
Examples:
  countermand serve --credentials key.json
  countermand serve --config /etc/countermand.toml --listen unix:/run/countermand.sock
  COUNTERMAND_LISTEN=127.0.0.1:50051,unix:/run/countermand.sock countermand serve --config c.toml

A flag takes precedence over its COUNTERMAND_… variable, the variable over the file, the file over the default.
RUST_LOG filters the log. SIGHUP reopens the file of the audit log and reloads the configuration file. All errors of
the configuration are printed at once, and the exit code is then 78.";

/// Serve google.longrunning.Operations until SIGTERM or SIGINT
#[derive(Debug, Args)]
#[command(after_help = help())]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    flags: SettingFlags,
}

/// The flags of the settings.
#[derive(Debug)]
struct SettingFlags(Flags);

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        Flags::augment(&all_settings(), command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Flags::of_matches(&all_settings(), matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The examples, and the variables without a flag.
fn help() -> String {
    let mut help =
        format!("{EXAMPLES}\n\nVariables without a flag (docs/CONFIGURATION.md describes them):\n");
    for setting in all_settings().iter().filter(|setting| setting.flag.is_none()) {
        help.extend(setting.variable.map(|variable| format!("  {variable}\n")));
    }
    help
}

/// Serves until a signal ends it.
pub(crate) async fn run(args: ServeArgs) -> Exit {
    let SettingFlags(flags) = args.flags;
    let passed = match PassedSockets::from_env() {
        Ok(passed) => passed,
        Err(error) => {
            output::complain(&error.to_string());
            return Exit::Config;
        }
    };
    let config = match Config::load(flags.clone(), Variables::of_process(), Machine::This) {
        Ok(config) => config,
        Err(errors) => {
            report(&errors);
            return Exit::Config;
        }
    };
    if let Err(closed) = config.settings.audit.check_stream() {
        output::complain(&closed.to_string());
        return Exit::Config;
    }
    let format = config.settings.log.log_format.unwrap_or_else(LogFormat::of_stderr);
    // The drop of the log writes the queued lines.
    let log = match telemetry::log::start(format, "info") {
        Ok(log) => log,
        Err(error) => {
            output::complain(&error);
            return Exit::Config;
        }
    };
    for variable in &config.unknown_variables {
        tracing::warn!(variable, "ignored an unknown environment variable");
    }
    for IgnoredVariable { ignored, used } in config.proxy.ignored() {
        tracing::warn!(
            ignored,
            used,
            "ignored a proxy variable, because the same variable in lower case differs"
        );
    }
    match serve(config, flags, passed, log.levels.clone()).await {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!(%error, "failed to serve");
            Exit::Failed
        }
    }
}

async fn serve(
    config: Config,
    flags: Flags,
    passed: PassedSockets,
    levels: LogLevels,
) -> Result<Exit, Box<dyn Error + Send + Sync>> {
    let mut signals = Signals::install()?;
    let hangup = signals::hangup()?;
    let has_file = config.file.is_some();
    let app = App::start(config, passed).await?.with_log_levels(levels);
    let reload = reload_on(hangup, app.audit(), has_file.then(|| app.reloader()), flags);
    let reloads = tokio::spawn(reload);
    for address in app.addresses() {
        tracing::info!(%address, "listening");
    }
    if let Some(address) = app.admin_address() {
        tracing::info!(%address, "listening on the admin port");
    }
    if let Some(address) = app.telemetry_address() {
        tracing::info!(%address, "listening for telemetry");
    }
    systemd::notify_ready();
    let ((stop, stopped), (cut, was_cut)) = (oneshot::channel(), oneshot::channel());
    let quit = app.quit_requested();
    tokio::spawn(async move {
        let is_quit = tokio::select! {
            () = signals.next() => false,
            () = quit => true,
        };
        // systemd expects no other notification after this one.
        reloads.abort();
        systemd::notify_stopping();
        // The receivers live as long as the process serves.
        let _ = stop.send(());
        if is_quit {
            tracing::info!("/quitquitquit was requested");
            // An orchestrator also signals a process that is draining already.
            signals.next().await;
            tracing::info!("received a signal during the drain");
        }
        signals.next().await;
        tracing::warn!("received a second signal; ending at once");
        let _ = cut.send(());
    });
    let drained = app.run(async { drop(stopped.await) }, async { drop(was_cut.await) }).await?;
    match drained {
        Drained::Complete => tracing::info!("drained"),
        Drained::TimedOut { calls } => {
            tracing::warn!(calls, "drain timed out with calls in flight")
        }
        Drained::Stopped { calls } => {
            tracing::warn!(calls, "ended with calls in flight");
            return Ok(Exit::Failed);
        }
    }
    Ok(Exit::Ok)
}

/// Reopens the audit log at each `hangup`, which log rotation sends after it has renamed the file, and reloads the
/// configuration file. Never returns.
async fn reload_on(mut hangup: Signal, audit: Audit, reloader: Option<Reloader>, flags: Flags) {
    while hangup.recv().await.is_some() {
        systemd::notify_reloading();
        audit.reopen();
        if let Some(reloader) = &reloader {
            reload(reloader, flags.clone()).await;
        }
        systemd::notify_ready();
    }
}

async fn reload(reloader: &Reloader, flags: Flags) {
    let load = move || Config::load(flags, Variables::of_process(), Machine::This);
    match tokio::task::spawn_blocking(load).await {
        Ok(Ok(config)) => {
            let Reloaded { applied, needs_restart } = reloader.apply(config);
            let applied = applied.join(", ");
            if needs_restart.is_empty() {
                tracing::info!(applied, "reloaded the configuration");
            } else {
                let needs_restart = needs_restart.join(", ");
                tracing::warn!(
                    applied,
                    needs_restart,
                    "reloaded the configuration; some settings need a restart"
                );
            }
        }
        Ok(Err(errors)) => {
            reloader.refused();
            for error in errors.iter() {
                tracing::error!(%error, "the configuration has an error");
            }
            let errors = errors.len();
            tracing::error!(errors, "failed to reload the configuration; the old one stays active");
        }
        Err(error) => {
            reloader.refused();
            tracing::error!(%error, "failed to reload the configuration; the old one stays active");
        }
    }
}

/// Prints the errors to standard error: a line that counts them, then one line each.
pub(crate) fn report(errors: &ConfigErrors) {
    let count = match errors.len() {
        1 => "1 error".to_owned(),
        more => format!("{more} errors"),
    };
    match errors.file() {
        Some(file) => output::complain(&format!("{count} in the configuration ({}):", file.display())),
        None => output::complain(&format!("{count} in the configuration:")),
    }
    for error in errors.iter() {
        output::to_stderr(&error.to_string());
    }
}
