//! Certificates in PEM (RFC 7468).

use rustls::pki_types::{
    CertificateDer,
    pem::{Error, PemObject},
};

/// Why a text gives no certificates. Nothing of this quotes it: a private key may stand there too, and where
/// its line breaks were lost, the library's own error holds it as the name of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// A section has no end, or no sound beginning.
    #[error("is not PEM: a BEGIN or END is missing, or has no line of its own")]
    Lines,
    /// Anything else, such as what is not base64.
    #[error("is not PEM: what stands between BEGIN and END is not base64, or too much")]
    Content,
    /// There is none, whatever else there is.
    #[error("holds no certificate")]
    NoCertificate,
}

/// The certificates in `pem`, in their order; at least one. Sections of other kinds are passed over.
///
/// # Errors
///
/// A section of any kind is malformed, or none is a certificate.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| match error {
        Error::MissingSectionEnd { .. } | Error::IllegalSectionStart { .. } => PemError::Lines,
        _ => PemError::Content,
    })?;
    if certificates.is_empty() { Err(PemError::NoCertificate) } else { Ok(certificates) }
}

/// A key as it comes out of a variable or a template that loses line breaks.
#[cfg(test)]
pub(crate) const KEY_ON_ONE_LINE: &str = "-----BEGIN PRIVATE KEY-----hunter2-----END PRIVATE KEY-----\n";

/// Whether `text` shows that key, as text or as the numbers of its bytes.
#[cfg(test)]
pub(crate) fn shows_the_key(text: &str) -> bool {
    text.contains("hunter2") || text.contains("104, 117, 110, 116, 101, 114, 50")
}

#[cfg(test)]
mod tests {
    use super::{KEY_ON_ONE_LINE, PemError, certificates, shows_the_key};

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_are_found_among_other_sections() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let pem = [CERTIFICATE, key, CERTIFICATE].concat();
        assert_eq!(certificates(pem.as_bytes()).unwrap().len(), 2);
        assert_eq!(certificates(key.as_bytes()), Err(PemError::NoCertificate));
    }

    #[test]
    fn no_error_quotes_the_text() {
        let and = |more: &str| [CERTIFICATE, more].concat();
        for (pem, error) in [
            (and(KEY_ON_ONE_LINE), PemError::Lines),
            (and("-----BEGIN PRIVATE KEY-----hunter2"), PemError::Lines),
            (and("-----BEGIN PRIVATE KEY-----\nhunter2"), PemError::Lines),
            (and("-----BEGIN PRIVATE KEY-----\n?hunter2\n-----END PRIVATE KEY-----\n"), PemError::Content),
            (CERTIFICATE.replace('\n', ""), PemError::Lines),
            ("hunter2".to_owned(), PemError::NoCertificate),
        ] {
            let met = certificates(pem.as_bytes()).unwrap_err();
            assert_eq!(met, error, "{pem}");
            assert!(!shows_the_key(&format!("{met} {met:?}")), "{met}");
        }
    }
}
