//! The configuration: the settings of all components, and the loaded files that the settings name.

use std::{fmt, path::PathBuf};

use crate::{
    admin::settings::Admin,
    amapi::settings::Upstream,
    audit::settings::Audit,
    config::{
        CA_CERTIFICATES, ConfigErrors, EffectiveSetting, FilePath, Flags, Given, Invalid, Provenance,
        READABLE_FILE, Section, Setting, Sources, Switch, Variables, address::collide, settings,
    },
    credentials::{
        LoadedCredential, Machine,
        settings::{CredentialConfig, CredentialOverride, CredentialSettings, SECTIONS},
    },
    http_client::{LoadedAuthorities, ProxySettings, tls::TlsError},
    loopback::is_loopback,
    operations::{
        guard::GuardLimit,
        settings::{GuardSettings, Polling},
    },
    policy::{
        PolicyFile,
        settings::{PolicyMode, PolicySettings},
    },
    quota::{
        settings::{QuotaSettings, SECTIONS as QUOTA_SECTIONS},
        shared::settings::{LoadedStore, QuotaSharedSettings, SECTION as QUOTA_SHARED, StoreConfig},
    },
    server::{
        identity::jwks::{KeyLoadError, LoadedKeys},
        settings::{Callers, Jwt, JwtSettings, Limits, ListenAddress, Server, TlsFiles, TlsSettings},
        tls::LoadedTls,
    },
    telemetry::{
        settings::{LogSettings, Telemetry, check_filter},
        traces::settings::TraceSettings,
    },
};

/// The environment variables of the other commands. A test compares the list with the command line.
pub(crate) const OTHER_COMMANDS_VARIABLES: [&str; 8] = [
    "COUNTERMAND_EMULATOR_LISTEN",
    "COUNTERMAND_EMULATOR_PICK_UP",
    "COUNTERMAND_EMULATOR_QUOTA",
    "COUNTERMAND_EMULATOR_WRITE_CREDENTIALS",
    "COUNTERMAND_SERVER",
    "COUNTERMAND_TLS_CA",
    "COUNTERMAND_TLS_CERT",
    "COUNTERMAND_TLS_KEY",
];

settings! {
    /// The settings that have no key in the file.
    pub struct CommandLine in "" {
        /// The configuration file, TOML.
        config: Option<PathBuf>, FilePath, env "COUNTERMAND_CONFIG", flag "--config FILE";
        /// Listen beyond loopback without TLS or a policy, for a mesh that encrypts and authorizes.
        allow_unauthenticated: bool = false, Switch, env "COUNTERMAND_ALLOW_UNAUTHENTICATED",
            flag "--allow-unauthenticated";
    }
}

/// A valid configuration.
pub struct Config {
    /// The values of the settings.
    pub settings: Settings,
    /// The loaded files.
    pub loaded: LoadedFiles,
    /// The proxy of the environment.
    pub proxy: ProxySettings,
    /// The export of traces, from the environment. `None` if it is off.
    pub traces: Option<TraceSettings>,
    /// The unknown `COUNTERMAND_…` variables that resemble no known variable.
    pub unknown_variables: Vec<String>,
    /// The configuration file, if one was given.
    pub file: Option<PathBuf>,
    /// The settings in effect, with their sources.
    pub effective: Vec<EffectiveSetting>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The values of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `[server]`: the addresses.
    pub server: Server,
    /// `[server]`: the limits.
    pub limits: Limits,
    /// `[server.tls]`; `None` for plaintext.
    pub tls: Option<TlsFiles>,
    /// `[admin]`: the operator's HTTP port.
    pub admin: Admin,
    /// `[upstream]`: the Android Management API.
    pub upstream: Upstream,
    /// The credentials, at least one.
    pub credentials: Vec<CredentialConfig>,
    /// `[policy]`: the Cedar policy. Without one, callers may do everything.
    pub policy: PolicySettings,
    /// `[callers]`: the evidence of a caller's identity that is accepted.
    pub callers: Callers,
    /// `[callers.jwt]`: the issuer whose bearer tokens are accepted.
    pub jwt: Option<Jwt>,
    /// `[polling]`: the intervals of queries about pending operations.
    pub polling: Polling,
    /// `[guard]`: the number of pending WIPEs that is reported. `None` for no guard.
    pub guard: Option<GuardLimit>,
    /// `[audit]`: the audit log.
    pub audit: Audit,
    /// `[telemetry]`: the listener for monitoring.
    pub telemetry: Telemetry,
    /// `[[quota]]`: the quotas of Google projects. Without any, no query is paced.
    pub quota: Vec<QuotaSettings>,
    /// `[quota_shared]`: the store that shares the budgets of `quota`. `None` if each process has them for itself.
    pub quota_shared: Option<StoreConfig>,
    /// The log.
    pub log: LogSettings,
}

/// The loaded and valid files of a configuration.
pub struct LoadedFiles {
    /// The files of `[server.tls]`.
    pub tls: Option<LoadedTls>,
    /// The certificates in `upstream.ca_certificates`, and the public ones.
    pub authorities: LoadedAuthorities,
    /// The keys of the issuer in `[callers.jwt]`.
    pub keys: Option<LoadedKeys>,
    /// The policy.
    pub policy: Option<PolicyFile>,
    /// The credentials, in the order of their settings.
    pub credentials: Vec<LoadedCredential>,
    /// The files of `[quota_shared]`.
    pub quota_store: Option<LoadedStore>,
}

/// All settings, in the order of the reference.
pub(crate) fn all_settings() -> Vec<Setting> {
    [
        CommandLine::describe(),
        LogSettings::describe(),
        CredentialOverride::describe(),
        Server::describe(),
        Limits::describe(),
        TlsSettings::describe(),
        Admin::describe(),
        Upstream::describe(),
        CredentialSettings::describe(),
        PolicySettings::describe(),
        Callers::describe(),
        JwtSettings::describe(),
        Polling::describe(),
        GuardSettings::describe(),
        Audit::describe(),
        Telemetry::describe(),
        QuotaSettings::describe(),
        QuotaSharedSettings::describe(),
    ]
    .concat()
}

/// The reference of all settings, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    let mut section = None;
    for setting in all_settings() {
        if section != Some(setting.section) {
            section = Some(setting.section);
            text += &match setting.section {
                "" => "\n## Flags and variables only\n".to_owned(),
                section @ (SECTIONS | QUOTA_SECTIONS) => format!("\n## `[[{section}]]`\n"),
                section => format!("\n## `[{section}]`\n"),
            };
        }
        text += &setting.reference();
    }
    text
}

impl Config {
    /// Reads and checks the flags, the variables, the configuration file, and the files that the settings name.
    /// Blocks while it reads files, resolves host names and, without a credential, detects Google Cloud.
    ///
    /// # Errors
    ///
    /// All errors of all sources. The errors of the file are in the order of its lines.
    pub fn load(flags: Flags, variables: Variables, machine: Machine) -> Result<Self, ConfigErrors> {
        let mut sources = Sources::new(flags, variables);
        let OpenedFile { path, mut root, is_valid, command_line } = open(&mut sources);

        // The sections are taken before any is read, because an unknown key may be a misspelled section.
        let policy_is_in_file = root.has("policy");
        let [mut policy, mut server, mut admin, mut upstream] =
            ["policy", "server", "admin", "upstream"].map(|key| root.section(key, &mut sources.errors));
        let before = sources.errors.len();
        let credentials = root.sections(SECTIONS, &mut sources.errors);
        let credentials_are_valid = sources.errors.len() == before;
        let (guard_is_in_file, before) = (root.has("guard"), sources.errors.len());
        let mut guard = root.section("guard", &mut sources.errors);
        let guard_is_table = sources.errors.len() == before;
        let [mut callers, mut polling, mut audit, mut telemetry] =
            ["callers", "polling", "audit", "telemetry"].map(|key| root.section(key, &mut sources.errors));
        let has_quota = root.has(QUOTA_SECTIONS);
        let quota = root.sections(QUOTA_SECTIONS, &mut sources.errors);
        let quota_shared_origin = root.unread(QUOTA_SHARED);
        let before = sources.errors.len();
        let mut quota_shared = root.section(QUOTA_SHARED, &mut sources.errors);
        let quota_shared_origin = quota_shared_origin.filter(|_| sources.errors.len() == before);
        let unknown = root.finish(&mut sources.errors);

        let proxy = ProxySettings::read(&mut sources);
        let (policy_settings, loaded_policy) = read_policy(&mut policy, policy_is_in_file, &mut sources);
        let protection = match policy_settings.mode {
            PolicyMode::Shadow => PolicyProtection::Shadow,
            // A section with errors, or a misspelled one, shows that a policy is intended.
            PolicyMode::Enforce
                if policy_is_in_file || policy_settings.file.is_some() || unknown.means("policy") =>
            {
                PolicyProtection::Enforced
            }
            PolicyMode::Enforce => PolicyProtection::None,
        };

        let (server_settings, limits, tls, loaded_tls, has_tls) = read_server(&mut server, &mut sources);
        let exposure =
            Exposure { has_tls, policy: protection, is_allowed: command_line.allow_unauthenticated };
        for (address, origin) in server_settings.listen.iter().zip(server.items("listen")) {
            if let ListenAddress::Tcp(address) = address {
                sources.errors.ok(origin, exposure.check(*address));
            }
        }

        let admin_settings = Admin::read(&mut admin, &mut sources);
        check_admin(&admin_settings, &admin, &server_settings, exposure, &mut sources.errors);
        admin.finish(&mut sources.errors);

        let upstream_settings = Upstream::read(&mut upstream, &mut sources);
        upstream.finish(&mut sources.errors);
        let authorities = LoadedAuthorities::load(upstream_settings.ca_certificates.clone());
        let authorities = authorities.map_err(|error| {
            upstream.invalid("ca_certificates", unusable_certificates(&error), &mut sources.errors)
        });

        let is_complete = is_valid && credentials_are_valid && !unknown.means(SECTIONS);
        let credentials = CredentialConfig::read_all(credentials, is_complete, machine, &mut sources);
        let credentials =
            credentials.into_iter().filter_map(|given| load_credential(given, &mut sources.errors));
        let (credentials, loaded_credentials) = credentials.unzip();

        let (callers_settings, jwt, keys) = read_callers(&mut callers, &proxy, &mut sources);

        let polling_settings = Polling::read(&mut polling, &mut sources);
        polling_settings.check(&polling, &mut sources.errors);
        polling.finish(&mut sources.errors);

        let guard_settings = GuardSettings::read(&mut guard, &mut sources);
        let has_guard = (guard_is_in_file || guard.is_given()) && guard_is_table;
        let guard_limit = has_guard.then(|| guard_settings.limit(&guard, &mut sources.errors)).flatten();
        guard.finish(&mut sources.errors);

        let audit_settings = Audit::read(&mut audit, &mut sources);
        audit_settings.check(&audit, &mut sources.errors);
        audit.finish(&mut sources.errors);

        let telemetry_settings = Telemetry::read(&mut telemetry, &mut sources);
        check_telemetry(
            &telemetry_settings,
            &telemetry,
            &server_settings,
            &admin_settings,
            &mut sources.errors,
        );
        telemetry.finish(&mut sources.errors);

        let quota = QuotaSettings::read_all(quota, &mut sources);
        let has_quota = has_quota || unknown.means(QUOTA_SECTIONS);
        let quota_shared = quota_shared_origin
            .and_then(|origin| read_quota_shared(&mut quota_shared, &origin, has_quota, &mut sources));
        let (quota_shared, quota_store) = quota_shared.unzip();

        let log = LogSettings::read(&mut Section::empty(""), &mut sources);
        check_filter(&mut sources);
        let traces = TraceSettings::read(&mut sources);

        let Sources { variables, mut errors, effective, .. } = sources;
        let unknown_variables = variables.finish(&OTHER_COMMANDS_VARIABLES, &mut errors);
        let Ok(authorities) = authorities else { return Err(errors.sorted(path)) };
        if !errors.is_empty() {
            return Err(errors.sorted(path));
        }
        let settings = Settings {
            server: server_settings,
            limits,
            tls,
            admin: admin_settings,
            upstream: upstream_settings,
            credentials,
            policy: policy_settings,
            callers: callers_settings,
            jwt,
            polling: polling_settings,
            guard: guard_limit,
            audit: audit_settings,
            telemetry: telemetry_settings,
            quota,
            quota_shared,
            log,
        };
        let loaded = LoadedFiles {
            tls: loaded_tls,
            authorities,
            keys,
            policy: loaded_policy,
            credentials: loaded_credentials,
            quota_store,
        };
        Ok(Self { settings, loaded, proxy, traces, unknown_variables, file: path, effective })
    }

    /// Loads the policy only, from the same sources, to explain a decision.
    ///
    /// # Errors
    ///
    /// The errors of the policy. Also the errors of a configuration file that cannot be read or is not TOML.
    pub fn policy_alone(flags: Flags, variables: Variables) -> Result<Option<PolicyFile>, ConfigErrors> {
        let mut sources = Sources::new(flags, variables);
        let OpenedFile { path, mut root, .. } = open(&mut sources);
        let is_in_file = root.has("policy");
        let mut section = root.section("policy", &mut sources.errors);
        let (_, policy) = read_policy(&mut section, is_in_file, &mut sources);
        if sources.errors.is_empty() { Ok(policy) } else { Err(sources.errors.sorted(path)) }
    }
}

/// The configuration file.
struct OpenedFile {
    /// The path, if the file could be read.
    path: Option<PathBuf>,
    /// The root section. Empty if the file is not valid.
    root: Section,
    /// Whether the file is valid. True if there is no file.
    is_valid: bool,
    command_line: CommandLine,
}

fn open(sources: &mut Sources) -> OpenedFile {
    let mut section = Section::empty("");
    let command_line = CommandLine::read(&mut section, sources);
    let path = command_line.config.clone().zip(section.origin("config").cloned());
    let Some((path, origin)) = path else {
        return OpenedFile { path: None, root: Section::empty(""), is_valid: true, command_line };
    };
    let before = sources.errors.len();
    let root = sources.open(&Given { value: path.clone(), origin });
    let is_valid = sources.errors.len() == before;
    let path = root.is_some().then_some(path);
    OpenedFile { path, root: root.unwrap_or_else(|| Section::empty("")), is_valid, command_line }
}

/// Reads the settings of the policy, and the policy if it is valid.
fn read_policy(
    section: &mut Section,
    is_in_file: bool,
    sources: &mut Sources,
) -> (PolicySettings, Option<PolicyFile>) {
    let settings = PolicySettings::read(section, sources);
    settings.check(section, is_in_file, &mut sources.errors);
    section.finish(&mut sources.errors);
    let Some(path) = settings.file.clone() else { return (settings, None) };
    let errors = match PolicyFile::load(path.clone(), settings.mode) {
        Ok(file) => return (settings, Some(file)),
        Err(errors) => errors,
    };
    for error in errors {
        // The path of a readable file is not a pasted secret.
        let problem = match error.position {
            Some(_) => format!("{}: {}", path.display(), error.located()),
            None => error.located(),
        };
        section.invalid("file", Invalid::new(problem, error.hint), &mut sources.errors);
    }
    (settings, None)
}

/// Reads the settings of `[server]`, its files, and whether TLS is intended.
fn read_server(
    section: &mut Section,
    sources: &mut Sources,
) -> (Server, Limits, Option<TlsFiles>, Option<LoadedTls>, bool) {
    let server = Server::read(section, sources);
    server.check(section, &mut sources.errors);
    let limits = Limits::read(section, sources);

    let tls_is_in_file = section.has("tls");
    let before = sources.errors.len();
    let mut tls = section.section("tls", &mut sources.errors);
    let tls_is_table = sources.errors.len() == before;
    let settings = TlsSettings::read(&mut tls, sources);
    let has_tls = tls_is_in_file || tls.is_given();
    let files = if has_tls && tls_is_table { settings.files(&tls, &mut sources.errors) } else { None };
    tls.finish(&mut sources.errors);
    let loaded = files.clone().filter(|_| sources.errors.len() == before).and_then(|files| {
        let errors = match files.load() {
            Ok(loaded) => return Some(loaded),
            Err(errors) => errors,
        };
        for error in errors {
            tls.invalid(error.file.key(), Invalid::new(error.problem, error.hint), &mut sources.errors);
        }
        None
    });

    let unknown = section.finish(&mut sources.errors);
    (server, limits, files, loaded, has_tls || unknown.means("tls"))
}

/// Reads the settings of `[callers]`, and the keys of the issuer.
fn read_callers(
    section: &mut Section,
    proxy: &ProxySettings,
    sources: &mut Sources,
) -> (Callers, Option<Jwt>, Option<LoadedKeys>) {
    let callers = Callers::read(section, sources);
    let jwt_is_in_file = section.has("jwt");
    let before = sources.errors.len();
    let mut jwt = section.section("jwt", &mut sources.errors);
    let jwt_is_table = sources.errors.len() == before;
    let settings = JwtSettings::read(&mut jwt, sources);
    let has_jwt = (jwt_is_in_file || jwt.is_given()) && jwt_is_table;
    let issuer = if has_jwt { settings.issuer(&jwt, &mut sources.errors) } else { None };
    jwt.finish(&mut sources.errors);
    section.finish(&mut sources.errors);
    let keys = issuer.as_ref().filter(|_| sources.errors.len() == before).and_then(|issuer| {
        let error = match LoadedKeys::load(issuer, proxy) {
            Ok(keys) => return Some(keys),
            Err(error) => error,
        };
        let hint = match &error {
            KeyLoadError::Unreadable(_) | KeyLoadError::Unusable(_) => {
                "name a file with a JSON Web Key Set, {\"keys\": [...]}, or give an https:// URL"
            }
            KeyLoadError::Certificates(_) => CA_CERTIFICATES,
            KeyLoadError::TokenFile(_) => READABLE_FILE,
        };
        jwt.invalid(error.key(), Invalid::new(error.to_string(), hint), &mut sources.errors);
        None
    });
    (callers, issuer, keys)
}

/// Reads the settings of `[quota_shared]`, and its files. `has_quota` is whether there is a quota to share.
fn read_quota_shared(
    section: &mut Section,
    origin: &Provenance,
    has_quota: bool,
    sources: &mut Sources,
) -> Option<(StoreConfig, LoadedStore)> {
    let settings = QuotaSharedSettings::read(section, sources);
    if !has_quota {
        let (problem, hint) =
            ("there is no quota to share", "add a [[quota]] section, or leave this section out");
        sources.errors.add(origin, problem, hint);
    }
    let config = settings.check(section, &mut sources.errors);
    let loaded = settings.load(section, &mut sources.errors);
    section.finish(&mut sources.errors);
    config.zip(loaded)
}

fn load_credential(
    given: Given<CredentialConfig>,
    errors: &mut ConfigErrors,
) -> Option<(CredentialConfig, LoadedCredential)> {
    let Given { value, origin } = given;
    let loaded = value.definition.load();
    let loaded = loaded.map_err(|error| Invalid::new(error.to_string(), error.hint()));
    Some((value, errors.ok(&origin, loaded)?))
}

fn unusable_certificates(error: &TlsError) -> Invalid {
    Invalid::new(error.to_string(), CA_CERTIFICATES)
}

/// The protection of listeners beyond loopback.
#[derive(Debug, Clone, Copy)]
struct Exposure {
    /// Whether there is TLS.
    has_tls: bool,
    policy: PolicyProtection,
    /// Whether `--allow-unauthenticated` is given.
    is_allowed: bool,
}

/// The protection by a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PolicyProtection {
    Enforced,
    /// The policy denies nothing.
    Shadow,
    None,
}

impl Exposure {
    /// Checks that an address beyond loopback has TLS and a policy, or `--allow-unauthenticated`.
    fn check(self, address: std::net::SocketAddr) -> Result<(), Invalid> {
        use PolicyProtection::{Enforced, None, Shadow};
        if self.is_allowed || is_loopback(address) {
            return Ok(());
        }
        let (problem, hint) = match (self.has_tls, self.policy) {
            (true, Enforced) => return Ok(()),
            (false, Enforced) => ("in plaintext", "set up [server.tls]"),
            (true, None) => ("and there is no policy on who may do what", "give a policy"),
            (true, Shadow) => ("and a policy in shadow mode denies nothing", "enforce the policy"),
            (false, None) => ("in plaintext and by anyone", "set up [server.tls] and a policy"),
            (false, Shadow) => ("in plaintext and by anyone", "set up [server.tls] and enforce the policy"),
        };
        Err(Invalid::new(
            format!("{address} can be reached from beyond this machine, {problem}"),
            format!(
                "{hint}, listen on 127.0.0.1 or a unix socket, or give --allow-unauthenticated where a mesh \
                 encrypts and authorizes"
            ),
        ))
    }
}

/// Adds an error for an admin address that is reachable from other machines, or that collides with a listener.
fn check_admin(
    admin: &Admin,
    section: &Section,
    server: &Server,
    exposure: Exposure,
    errors: &mut ConfigErrors,
) {
    let (Some(address), Some(origin)) = (admin.listen, section.origin("listen")) else { return };
    if !exposure.is_allowed && !is_loopback(address) {
        errors.add(
            origin,
            format!("{address} can be reached from beyond this machine, in plaintext and by anyone"),
            "listen on 127.0.0.1, or give --allow-unauthenticated where a mesh encrypts and authorizes",
        );
        return;
    }
    if let Some(served) = collision(address, server) {
        let problem = format!("{address} collides with {served}, which serves gRPC");
        errors.add(origin, problem, r#"give another port, or "off""#);
    }
}

/// Adds an error for a telemetry address that collides with another listener. It may be reachable from other machines.
fn check_telemetry(
    telemetry: &Telemetry,
    section: &Section,
    server: &Server,
    admin: &Admin,
    errors: &mut ConfigErrors,
) {
    let (Some(address), Some(origin)) = (telemetry.listen, section.origin("listen")) else { return };
    let problem = match (collision(address, server), admin.listen) {
        (Some(served), _) => format!("{address} collides with {served}, which serves gRPC"),
        (None, Some(admin)) if collide(admin, address) => format!("{address} collides with the admin port"),
        (None, _) => return,
    };
    errors.add(origin, problem, "give another port");
}

/// The address that serves gRPC and collides with `address`.
fn collision(address: std::net::SocketAddr, server: &Server) -> Option<&ListenAddress> {
    server.listen.iter().find(|served| match served {
        ListenAddress::Tcp(served) => collide(*served, address),
        ListenAddress::Unix(_) => false,
    })
}

#[cfg(test)]
mod tests;
