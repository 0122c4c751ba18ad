//! Findings without network access: the proxy, listeners, TLS files, the policy, the audit log and the quota.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::{finding::Finding, proxy, quota};
use crate::{
    app::{Config, config::Settings},
    audit::settings::{Audit, Destination, OnFailure},
    config::READABLE_FILE,
    loopback::is_loopback,
    policy::{PolicyFile, settings::PolicyMode},
    server::{
        cert_summary::{self, CertSummary, ValidityState},
        settings::{ListenAddress, TlsFiles},
        tls::TlsFile,
    },
};

/// The mode bits that a credential file does not need: all permissions of others, and write permission of the group.
const EXCESSIVE_MODE: u32 = 0o027;

/// The findings about a valid configuration. Blocks while it reads files.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let Config { settings, loaded, proxy: _, traces, unknown_variables, file: _, effective: _ } = config;
    let mut findings = vec![Finding::ok("configuration", "all settings are valid")];
    findings.extend(
        unknown_variables.iter().map(|name| Finding::warning(name, "there is no such variable", "unset it")),
    );
    findings.extend(proxy::findings(config));
    findings.extend(listeners(settings));
    findings.extend(settings.tls.iter().flat_map(tls_files));
    findings.extend(loaded.policy.iter().flat_map(policy_file));
    findings.extend(audit_log(&settings.audit));
    findings.extend(quota::findings(&settings.quota, &settings.credentials, &loaded.credentials));
    findings.extend(
        traces
            .iter()
            .map(|traces| Finding::ok("traces", format!("spans are exported to {}", traces.collector()))),
    );
    findings
}

/// A warning for each TCP address beyond loopback without TLS, or without a policy that is enforced.
fn listeners(settings: &Settings) -> Vec<Finding> {
    let problem = match (&settings.tls, settings.policy.is_enforced()) {
        (Some(_), true) => return Vec::new(),
        (None, true) => "in plaintext",
        (Some(_), false) => "without a policy that is enforced",
        (None, false) => "in plaintext and without a policy that is enforced",
    };
    let beyond_loopback = settings.server.listen.iter().filter(|address| match address {
        ListenAddress::Tcp(address) => !is_loopback(*address),
        ListenAddress::Unix(_) => false,
    });
    let warning = |address| {
        let finding = format!("{address} can be reached from beyond this machine, {problem}");
        Finding::warning(
            "server.listen",
            finding,
            "check that a mesh encrypts and authorizes its connections",
        )
    };
    beyond_loopback.map(warning).collect()
}

fn tls_files(files: &TlsFiles) -> Vec<Finding> {
    let TlsFiles { certificate, private_key, client_ca } = files;
    let mut findings = certificates(TlsFile::Certificate, certificate);
    findings.push(file_access("server.tls.private_key", private_key));
    findings.extend(client_ca.iter().flat_map(|path| certificates(TlsFile::ClientCa, path)));
    findings
}

fn certificates(which: TlsFile, path: &Path) -> Vec<Finding> {
    match cert_summary::of_file(path) {
        Ok(all) => all.iter().map(|summary| certificate(which, path, summary)).collect(),
        Err(problem) => {
            let hint = "name a PEM file of certificates (BEGIN CERTIFICATE)";
            vec![Finding::error(
                format!("server.tls.{}", which.key()),
                format!("{} {problem}", path.display()),
                hint,
            )]
        }
    }
}

fn certificate(which: TlsFile, path: &Path, summary: &CertSummary) -> Finding {
    let CertSummary { subject, validity, state } = summary;
    let text = |state: &str| format!("{}: {subject}: {state}", path.display());
    let left = |days: u64| text(&format!("{days} days left, until {}", validity.end()));
    // An invalid CA is only a warning, because webpki ignores the validity of trust anchors (RFC 5280, section 6.1.1).
    let invalid = |state: &str, hint: &str| match which {
        TlsFile::ClientCa => {
            let hint = "replace it and the client certificates that it signed";
            Finding::warning(format!("server.tls.{}", which.key()), text(state), hint)
        }
        TlsFile::Certificate | TlsFile::PrivateKey => {
            Finding::error(format!("server.tls.{}", which.key()), text(state), hint)
        }
    };
    match *state {
        ValidityState::Valid { days_left } => {
            Finding::ok(format!("server.tls.{}", which.key()), left(days_left))
        }
        ValidityState::ExpiresSoon { days_left } => {
            let hint = "renew it, and check that its automatic renewal works";
            Finding::warning(format!("server.tls.{}", which.key()), left(days_left), hint)
        }
        ValidityState::Expired => {
            invalid(&format!("expired at {}: clients will refuse it", validity.end()), "renew it")
        }
        ValidityState::NotYet => invalid(
            "is not valid yet: clients will refuse it",
            "check the clock of this machine, or wait until the certificate is valid",
        ),
    }
}

fn policy_file(file: &PolicyFile) -> Vec<Finding> {
    let subject = format!("policy {}", file.path.display());
    let rules = &file.rules;
    let count = match rules.statements.len() {
        1 => "1 policy".to_owned(),
        count => format!("{count} policies"),
    };
    let mut findings = vec![Finding::ok(&subject, count)];
    findings.extend(
        rules.warnings.iter().map(|warning| Finding::warning(&subject, warning.located(), &warning.hint)),
    );
    if file.mode == PolicyMode::Shadow {
        let finding = "it is in shadow mode: no call is denied";
        findings.push(Finding::warning(&subject, finding, r#"give policy.mode = "enforce" to enforce it"#));
    }
    if !rules.has_permit() {
        findings.push(Finding::warning(&subject, "it permits nothing", "add a permit"));
    }
    findings
}

/// The finding about the audit log. `Config::load` has checked that the file can be written.
fn audit_log(audit: &Audit) -> Option<Finding> {
    let Audit { file: destination, on_failure } = audit;
    let Destination::File(file) = destination else { return None };
    let finding = format!("{} can be written", file.display());
    Some(match on_failure {
        OnFailure::Fail => Finding::ok("audit.file", finding),
        OnFailure::Continue => Finding::warning(
            "audit.file",
            format!("{finding}; calls are not recorded while it cannot be written"),
            "remove audit.on_failure if every call must be recorded",
        ),
    })
}

/// The finding about the owner and the mode of a credential file. Symbolic links are followed.
pub(super) fn file_access(subject: &str, file: &Path) -> Finding {
    let name = file.display();
    let (owner, group, mode) = match fs::metadata(file) {
        Ok(metadata) => (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
        Err(error) => {
            return Finding::error(subject, format!("cannot read {name}: {error}"), READABLE_FILE);
        }
    };
    let access = format!("owner {owner}, group {group}, mode {mode:04o}");
    let hint = format!(
        "chmod {:04o} {name}; in Kubernetes, defaultMode: 0440 of the volume and fsGroup of the pod",
        mode & !EXCESSIVE_MODE
    );
    let warning = |risk: &str| Finding::warning(subject, format!("{risk} {name} ({access})"), &hint);
    if mode & 0o002 != 0 {
        warning("every user of this machine can replace the content of")
    } else if mode & 0o004 != 0 {
        warning("every user of this machine can read")
    } else if mode & 0o020 != 0 {
        warning("every user of the group can replace the content of")
    } else {
        Finding::ok(subject, format!("{name} can be read ({access})"))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::file_access;

    #[test]
    fn a_file_with_excessive_permissions_is_a_warning_with_a_hint() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        for (mode, begin) in [
            (0o600, "credential emea: FILE can be read (owner "),
            (0o440, "credential emea: FILE can be read (owner "),
            (0o644, "credential emea: every user of this machine can read FILE (owner "),
            (0o666, "credential emea: every user of this machine can replace the content of FILE (owner "),
            (0o660, "credential emea: every user of the group can replace the content of FILE (owner "),
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let line = file_access("credential emea", path).to_string();
            let begin = begin.replace("FILE", path.to_str().unwrap());
            assert!(line.starts_with(&begin), "{mode:o}: {line}");
            assert!(line.contains(&format!("mode {mode:04o})")), "{line}");
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o646)).unwrap();
        assert!(file_access("x", path).to_string().contains("; chmod 0640 "));
    }
}
