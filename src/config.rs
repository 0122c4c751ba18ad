//! What the service is told: raw text from flags, variables and a file becomes a [`Config`] in which
//! every value has been checked, or a list of all the [`Faults`] at once.
//!
//! A setting comes from its flag, else from its `COUNTERMAND_…` variable, else from the file, else from
//! its default. Each section of the file is a module, which names the setting's three sources side by
//! side; `table` and `environment` notice whatever nobody asked for.

mod admin;
mod audit;
mod callers;
mod credentials;
mod discreet;
mod endpoint;
mod environment;
mod fault;
mod file;
mod files;
mod limits;
mod listen;
mod log;
mod policy;
mod polling;
mod server;
mod slips;
mod source;
mod sources;
mod table;
mod tls;
mod unix_socket;
mod upstream;

#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;

pub use crate::audit::settings::{Audit, Destination, OnFailure};
pub use admin::Admin;
pub use credentials::Credential;
pub use environment::Environment;
pub use fault::{Fault, Faults};
pub use log::LogFormat;
pub use polling::Polling;
pub use upstream::{BaseUrl, Upstream};

pub use crate::server::settings::{Callers, Jwks, Jwt, Limits, ListenAddress, Owner, Server, UnixSocket};

pub(crate) use files::{CA_CERTIFICATES, READABLE_FILE, certificates, readable};
pub(crate) use source::duration;

#[cfg(test)]
pub(crate) use environment::known::OF_OTHER_COMMANDS;

use file::File;
use policy::Policed;
use source::Given;

use crate::policy::PolicyFile;

/// A configuration in which every value is in range and every file named exists and can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[server]`: what serves gRPC.
    pub server: Server,
    /// `[admin]`: the operator's HTTP port.
    pub admin: Admin,
    /// `[upstream]`: the Android Management API.
    pub upstream: Upstream,
    /// The credentials that calls upstream carry, at least one, each for the enterprises that it serves.
    pub credentials: Vec<Credential>,
    /// `[policy]`: the Cedar policy; `None` when callers may do all.
    pub policy: Option<PolicyFile>,
    /// `[callers]`: who is believed to call.
    pub callers: Callers,
    /// `[polling]`: how often Google is asked about an operation.
    pub polling: Polling,
    /// `[audit]`: the audit log.
    pub audit: Audit,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Variables `COUNTERMAND_…` that nothing reads and that resemble no known one.
    pub unknown_variables: Vec<String>,
}

/// What the command line says, unchecked. Paths are relative to the working directory.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`: the file to read.
    pub config: Option<PathBuf>,
    /// `--listen`, as often as it is given.
    pub listen: Vec<String>,
    /// `--admin-listen`.
    pub admin_listen: Option<String>,
    /// `--credentials`: takes the place of the file's `[[credentials]]`.
    pub credentials: Option<PathBuf>,
    /// `--upstream-url`.
    pub upstream_url: Option<String>,
    /// `--upstream-ca`.
    pub upstream_ca: Option<PathBuf>,
    /// `--policy`.
    pub policy: Option<PathBuf>,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
    /// `--allow-unauthenticated`: a listener beyond loopback without TLS or a policy is wanted.
    pub allow_unauthenticated: bool,
}

impl Config {
    /// Reads and checks everything: the command line, the environment, the file and the files it names.
    ///
    /// Blocks while it reads files, resolves the host names of `listen` and, when there is no credential,
    /// finds out whether this is Google Cloud.
    ///
    /// # Errors
    ///
    /// All faults of all sources, in the order of the file. When the file itself cannot be read or is not
    /// TOML, those of the command line and the environment come with it.
    pub fn load(overrides: Overrides, mut environment: Environment) -> Result<Self, Faults> {
        let Overrides {
            config,
            listen,
            admin_listen,
            credentials: credential_file,
            upstream_url,
            upstream_ca,
            policy,
            log_format,
            allow_unauthenticated,
        } = overrides;
        let mut faults = Faults::default();

        let path = Given::flag("--config", config).or(environment.path("COUNTERMAND_CONFIG"));
        let text = path.as_ref().and_then(|path| File::read(path, &mut faults));
        let file = text.as_ref().map_or_else(File::empty, |text| File::parse(text, &mut faults));
        let file_is_whole = faults.is_empty();
        let mut root = file.root;

        let may_be_open =
            environment.flag("COUNTERMAND_ALLOW_UNAUTHENTICATED", &mut faults) || allow_unauthenticated;

        let policy = Policed::find(policy, &mut environment, &mut root, &mut faults);

        // All before any is read: what is left may be a policy or credentials, misspelt.
        let [server, admin, upstream] =
            ["server", "admin", "upstream"].map(|key| root.section(key, &mut faults));
        let before = faults.len();
        let written = root.sections(credentials::SECTIONS, &mut faults);
        let written_is_whole = faults.len() == before;
        let [callers, polling, audit] =
            ["callers", "polling", "audit"].map(|key| root.section(key, &mut faults));
        let unknown = root.finish(&mut faults);

        let policed = policy.is_meant(&unknown);
        let server = Server::read(listen, &mut environment, server, policed, may_be_open, &mut faults);

        let mut section = admin;
        let admin =
            Admin::read(admin_listen, &mut environment, &mut section, may_be_open, &server, &mut faults);
        section.finish(&mut faults);

        let mut section = upstream;
        let upstream = Upstream::read(upstream_url, upstream_ca, &mut environment, &mut section, &mut faults);
        section.finish(&mut faults);

        let is_whole = file_is_whole && written_is_whole && !unknown.means(credentials::SECTIONS);
        let credentials =
            Credential::read_all(credential_file, &mut environment, written, is_whole, &mut faults);

        let mut section = callers;
        let callers = Callers::read(&mut environment, &mut section, &mut faults);
        section.finish(&mut faults);

        let mut section = polling;
        let polling = Polling::read(&mut environment, &mut section, &mut faults);
        section.finish(&mut faults);

        let policy = policy.read(&mut faults);

        let mut section = audit;
        let audit = Audit::read(&mut environment, &mut section, &mut faults);
        section.finish(&mut faults);

        let log_format = LogFormat::read(log_format, &mut environment, &mut faults);

        let unknown_variables = environment.finish(&mut faults);

        if !faults.is_empty() {
            return Err(faults.of_file(text.and(path).map(|path| path.value)));
        }
        Ok(Self {
            server,
            admin,
            upstream,
            credentials,
            callers,
            policy,
            polling,
            audit,
            log_format,
            unknown_variables,
        })
    }

    /// Finds and checks the policy file alone, in the same sources: whoever asks what a policy says need
    /// have none of what else it takes to serve.
    ///
    /// # Errors
    ///
    /// The faults of the policy, and those of a configuration file that cannot be read or is not TOML.
    pub fn policy_alone(
        overrides: Overrides,
        mut environment: Environment,
    ) -> Result<Option<PolicyFile>, Faults> {
        let mut faults = Faults::default();
        let path = Given::flag("--config", overrides.config).or(environment.path("COUNTERMAND_CONFIG"));
        let text = path.as_ref().and_then(|path| File::read(path, &mut faults));
        let mut file = text.as_ref().map_or_else(File::empty, |text| File::parse(text, &mut faults));
        let policy = Policed::find(overrides.policy, &mut environment, &mut file.root, &mut faults);
        let policy = policy.read(&mut faults);
        if faults.is_empty() {
            Ok(policy)
        } else {
            Err(faults.of_file(text.and(path).map(|path| path.value)))
        }
    }
}
