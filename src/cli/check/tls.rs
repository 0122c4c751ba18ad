//! What there is to say of the certificates that the server shows, and of those that it believes clients by.

use std::path::Path;

use super::{file, finding::Finding};
use crate::server::{
    cert_summary::{self, CertSummary, ValidityState},
    settings::TlsFiles,
    tls::TlsFile,
};

/// Blocks.
pub(super) fn findings(files: &TlsFiles) -> Vec<Finding> {
    let TlsFiles { certificate, private_key, client_ca } = files;
    let mut findings = of_file(TlsFile::Certificate, certificate);
    findings.push(file::finding("server.tls.private_key", private_key));
    findings.extend(client_ca.iter().flat_map(|path| of_file(TlsFile::ClientCa, path)));
    findings
}

fn of_file(which: TlsFile, path: &Path) -> Vec<Finding> {
    match cert_summary::of_file(path) {
        Ok(all) => all.iter().map(|certificate| finding(which, path, certificate)).collect(),
        Err(problem) => {
            let cure = "name a PEM file of certificates (BEGIN CERTIFICATE)";
            vec![Finding::fault(
                format!("server.tls.{}", which.key()),
                format!("{} {problem}", path.display()),
                cure,
            )]
        }
    }
}

fn finding(which: TlsFile, path: &Path, certificate: &CertSummary) -> Finding {
    let CertSummary { subject, validity, state } = certificate;
    let told = |how: &str| format!("{}: {subject}: {how}", path.display());
    let left = |days: u64| told(&format!("{days} days left, until {}", validity.end()));
    // Of an authority that is configured, webpki asks for the name and the key only (RFC 5280, section 6.1.1).
    let ended = |how: &str, cure: &str| match which {
        TlsFile::ClientCa => {
            Finding::warning(format!("server.tls.{}", which.key()), told(how), "replace it, clients and all")
        }
        TlsFile::Certificate | TlsFile::PrivateKey => {
            Finding::fault(format!("server.tls.{}", which.key()), told(how), cure)
        }
    };
    match *state {
        ValidityState::Fresh { days_left } => {
            Finding::ok(format!("server.tls.{}", which.key()), left(days_left))
        }
        ValidityState::EndsSoon { days_left } => Finding::warning(
            format!("server.tls.{}", which.key()),
            left(days_left),
            "renew it, and see that what does so by itself runs",
        ),
        ValidityState::Expired => {
            ended(&format!("expired at {}: clients will refuse it", validity.end()), "renew it")
        }
        ValidityState::NotYet => ended(
            "is not valid yet: clients will refuse it",
            "see that the clock here is right, or wait until it is",
        ),
    }
}
