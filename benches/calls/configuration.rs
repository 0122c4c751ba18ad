//! The ways in which Countermand is set up for the rows.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::files::{CLIENT_ID, Paths};
use crate::workload::{self, CREDENTIALS};
use crate::{Fault, tls};

/// How Countermand is started, and how callers reach it then.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The options of `countermand serve` that are not those of every row.
    pub(crate) arguments: Vec<OsString>,
    /// The TLS of its callers; `None` for plaintext.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Configuration {
    /// Plaintext, one credential, no policy: what a sidecar is.
    pub(crate) fn plain(paths: &Paths) -> Self {
        Self { arguments: vec!["--credentials".into(), paths.credentials().into()], tls: None }
    }

    /// As [`Self::plain`], with the settings of a file.
    pub(crate) fn with_settings(paths: &Paths, settings: &Path) -> Self {
        let mut plain = Self::plain(paths);
        plain.arguments.extend(["--config".into(), settings.into()]);
        plain
    }

    /// Plaintext and no policy, with [`CREDENTIALS`] credentials, each of which serves an enterprise by its id
    /// and others by a prefix.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(crate) fn many_credentials(paths: &Paths) -> Result<Self, Fault> {
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

    /// Mutual TLS, a policy that knows the caller by its certificate, and an audit log in a file.
    ///
    /// # Errors
    ///
    /// When a file cannot be written or read.
    pub(crate) fn everything_on(paths: &Paths) -> Result<Self, Fault> {
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

/// The two examples of the documentation, a forbidding one, those of eight more callers, and the one that
/// permits the calls of the benchmark: what a small company has.
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
            crate::operation::ENTERPRISE
        )
}
