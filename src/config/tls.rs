//! `[server.tls]`: by which certificate the server is known, and whose certificates its clients show.

use std::path::PathBuf;

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    files,
    source::{Given, Origin},
    table::Section,
};
use crate::server::{settings::TlsFiles, tls::TlsFile};

/// What was given.
pub(super) struct Tls {
    /// Whether the section or a variable of it is there, right or not.
    pub(super) is_given: bool,
    /// The files, when all is right with them.
    pub(super) files: Option<TlsFiles>,
}

impl Tls {
    pub(super) fn read(environment: &mut Environment, server: &mut Section<'_>, faults: &mut Faults) -> Self {
        let is_section = server.has("tls");
        let before = faults.len();
        let mut file = server.section("tls", faults);
        let is_whole = faults.len() == before;
        let certificate =
            environment.path("COUNTERMAND_SERVER_TLS_CERTIFICATE").or(file.path("certificate", faults));
        let private_key =
            environment.path("COUNTERMAND_SERVER_TLS_PRIVATE_KEY").or(file.path("private_key", faults));
        let client_ca =
            environment.path("COUNTERMAND_SERVER_TLS_CLIENT_CA").or(file.path("client_ca", faults));
        let is_given = is_section || certificate.is_some() || private_key.is_some() || client_ca.is_some();

        if is_given && is_whole {
            for (key, given) in [("certificate", &certificate), ("private_key", &private_key)] {
                if given.is_none() && file.lacks(key) {
                    faults.add(&file.missing(key), "this is missing", "name a PEM file");
                }
            }
        }
        for given in [&certificate, &private_key, &client_ca].into_iter().flatten() {
            given.parse(faults, files::readable);
        }
        file.finish(faults);
        let files = match (certificate, private_key) {
            (Some(certificate), Some(private_key)) if faults.len() == before => {
                check(certificate, private_key, client_ca, faults)
            }
            _ => None,
        };
        Self { is_given, files }
    }
}

/// Reads the files whole, so that what is wrong with one is told at its own key.
fn check(
    certificate: Given<PathBuf>,
    private_key: Given<PathBuf>,
    client_ca: Option<Given<PathBuf>>,
    faults: &mut Faults,
) -> Option<TlsFiles> {
    let origins = [Some(certificate.origin), Some(private_key.origin), client_ca.as_ref().map(origin)];
    let files = TlsFiles {
        certificate: certificate.value,
        private_key: private_key.value,
        client_ca: client_ca.map(|given| given.value),
    };
    let error = match files.load() {
        Ok(_) => return Some(files),
        Err(error) => error,
    };
    let [of_certificate, of_key, of_ca] = origins;
    let origin = match error.file {
        TlsFile::Certificate => of_certificate,
        TlsFile::PrivateKey => of_key,
        TlsFile::ClientCa => of_ca,
    };
    let wrong = Wrong::new(error.problem, error.remedy);
    origin.and_then(|origin| faults.note(&origin, Err(wrong)))
}

fn origin<T>(given: &Given<T>) -> Origin {
    given.origin.clone()
}
