//! Certificates in PEM (RFC 7468).

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer,
        pem::{Error, PemObject},
    },
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The reason why a text holds no usable certificates. No variant quotes the text, because the text may hold a
/// private key. The library's error quotes the key if its line breaks were lost. Numbers count the certificates
/// before the error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// A section has no end, or a malformed beginning.
    #[error("is not PEM: a BEGIN or END is missing, or has no line of its own (after {0} certificates)")]
    Lines(usize),
    /// Any other error, such as text that is not base64.
    #[error(
        "is not PEM: the text between BEGIN and END is not base64, or is too long (after {0} certificates)"
    )]
    Content(usize),
    /// There is no certificate.
    #[error("holds no certificate")]
    NoCertificate,
    /// A certificate that cannot be a trust anchor.
    #[error("holds a certificate that cannot be used: number {position}{}: {cause}", in_parentheses(subject))]
    Unusable {
        /// Its position, from 1.
        position: usize,
        /// Its subject, if that can be read.
        subject: Option<String>,
        /// The reason.
        cause: String,
    },
}

fn in_parentheses(subject: &Option<String>) -> String {
    subject.as_ref().map_or(String::new(), |subject| format!(" ({subject})"))
}

/// The certificates in `pem`, in their order; at least one. Sections of other kinds are skipped.
///
/// # Errors
///
/// A section of any kind is malformed, or none is a certificate.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let before = certificates.len();
        certificates.push(certificate.map_err(|error| match error {
            Error::MissingSectionEnd { .. } | Error::IllegalSectionStart { .. } => PemError::Lines(before),
            _ => PemError::Content(before),
        })?);
    }
    if certificates.is_empty() { Err(PemError::NoCertificate) } else { Ok(certificates) }
}

/// Adds the certificates in `pem` to `roots`.
///
/// # Errors
///
/// As for [`certificates`], or a certificate cannot be trusted.
pub fn add_roots(pem: &[u8], roots: &mut RootCertStore) -> Result<(), PemError> {
    for (index, certificate) in certificates(pem)?.into_iter().enumerate() {
        let subject = subject(&certificate);
        roots.add(certificate).map_err(|error| PemError::Unusable {
            position: index + 1,
            subject,
            cause: error.to_string(),
        })?;
    }
    Ok(())
}

fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.subject().to_string()).filter(|subject| !subject.chars().any(char::is_control))
}

/// A private key whose line breaks were lost, for example in an environment variable.
#[cfg(test)]
pub(crate) const KEY_ON_ONE_LINE: &str = "-----BEGIN PRIVATE KEY-----hunter2-----END PRIVATE KEY-----\n";

/// Whether `text` contains that key, as text or as the numbers of its bytes.
#[cfg(test)]
pub(crate) fn shows_the_key(text: &str) -> bool {
    text.contains("hunter2") || text.contains("104, 117, 110, 116, 101, 114, 50")
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;

    use super::{KEY_ON_ONE_LINE, PemError, add_roots, certificates, shows_the_key};

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_are_found_among_other_sections() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let pem = [CERTIFICATE, key, CERTIFICATE].concat();
        assert_eq!(certificates(pem.as_bytes()).unwrap().len(), 2);
        assert_eq!(certificates(key.as_bytes()), Err(PemError::NoCertificate));
    }

    #[test]
    fn the_error_of_an_unusable_certificate_has_its_position() {
        let name = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
        let pem = [&*name("a.example"), &name("b.example"), CERTIFICATE, &name("c.example")].concat();
        let error = add_roots(pem.as_bytes(), &mut RootCertStore::empty()).unwrap_err().to_string();
        assert!(error.starts_with("holds a certificate that cannot be used: number 3: "), "{error}");
        let broken = pem.replacen("AAAA", "?", 1);
        let error = add_roots(broken.as_bytes(), &mut RootCertStore::empty()).unwrap_err().to_string();
        assert!(error.ends_with("(after 2 certificates)"), "{error}");
    }

    #[test]
    fn no_error_quotes_the_text() {
        let after_certificate = |more: &str| [CERTIFICATE, more].concat();
        for (pem, error) in [
            (after_certificate(KEY_ON_ONE_LINE), PemError::Lines(1)),
            (after_certificate("-----BEGIN PRIVATE KEY-----hunter2"), PemError::Lines(1)),
            (after_certificate("-----BEGIN PRIVATE KEY-----\nhunter2"), PemError::Lines(1)),
            (
                after_certificate("-----BEGIN PRIVATE KEY-----\n?hunter2\n-----END PRIVATE KEY-----\n"),
                PemError::Content(1),
            ),
            (CERTIFICATE.replace('\n', ""), PemError::Lines(0)),
            ("hunter2".to_owned(), PemError::NoCertificate),
        ] {
            let found = certificates(pem.as_bytes()).unwrap_err();
            assert_eq!(found, error, "{pem}");
            assert!(!shows_the_key(&format!("{found} {found:?}")), "{found}");
        }
    }
}
